//! The numbers that a run is told by.

use crate::common::run_dir::Make;
use quantbound::results::headline::Headline;
use quantbound::results::schema::Summary;
use quantbound::results::store::read_summary;

fn summary() -> Summary {
    let dir = tempfile::tempdir().unwrap();
    Make::default().write(dir.path());
    read_summary(dir.path()).unwrap()
}

#[test]
fn it_speaks_of_the_output_and_not_of_the_last_layer() {
    let summary = summary();
    let headline = Headline::of(&summary);
    let outputs: Vec<f64> = summary
        .cells
        .iter()
        .map(|c| c.output.max_abs_diff)
        .collect();
    let least = outputs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = outputs.iter().copied().fold(0.0, f64::max);
    assert_eq!(headline.drift, Some((least, most)));
    assert!(
        summary
            .cells
            .iter()
            .any(|c| c.final_layer.max_abs_diff != c.output.max_abs_diff)
    );

    let mut other = summary.clone();
    for cell in &mut other.cells {
        cell.final_layer.max_abs_diff *= 7.0;
        cell.final_layer.bounds.clear();
    }
    assert_eq!(Headline::of(&other), headline);
}

#[test]
fn what_is_no_number_violated_or_capped_is_not_the_tightest() {
    let mut summary = summary();
    let before = Headline::of(&summary);
    let tightest = before.tightest.clone().unwrap();
    let index = summary
        .cells
        .iter()
        .position(|c| c.key == tightest.cell)
        .unwrap();
    let mut near = summary.cells[index].output.bounds[0].clone();
    near.looseness = tightest.looseness - 0.1;
    for (bound, looseness) in [
        ("best+cap", near.looseness),
        ("sample", near.looseness),
        ("fused", f64::NEG_INFINITY),
        ("fused", f64::NAN),
    ] {
        let mut other = summary.clone();
        let bounds = &mut other.cells[index].output.bounds;
        bounds.retain(|b| b.bound != bound);
        near.bound = bound.to_string();
        near.looseness = looseness;
        bounds.push(near.clone());
        let tightest = Headline::of(&other).tightest.unwrap();
        assert!(
            tightest.bound != bound && tightest.looseness.is_finite(),
            "{tightest:?}"
        );
    }
    // `best` is the least of all: without it the next one leads, unless a measurement is above it.
    for cell in &mut summary.cells {
        for of_bound in &mut cell.verdicts {
            of_bound.counts.violated = u64::from(of_bound.bound == tightest.bound);
        }
    }
    let next = Headline::of(&summary).tightest.unwrap();
    assert!(next.bound != tightest.bound && next.looseness >= tightest.looseness);
}

#[test]
fn a_cell_without_a_finite_output_has_no_say() {
    let mut summary = summary();
    for cell in &mut summary.cells {
        cell.output.max_abs_diff = f64::NAN;
        for bound in &mut cell.output.bounds {
            bound.looseness = f64::NAN;
        }
    }
    let none = Headline {
        drift: None,
        tightest: None,
        loosest: None,
    };
    assert_eq!(Headline::of(&summary), none);
}
