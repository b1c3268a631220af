//! The judge against a literal one, on made-up tables: any number of images in batches, the last of them partial, NaN
//! and infinities anywhere, violations at any depth, bounds on all images and on each, of real and of engine arithmetic.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;
use quantbound::engine::Exact;
use quantbound::experiment::derive::judge::{Digits, Judge, Judged};
use quantbound::facts::Arithmetic;
use quantbound::quant::Granularity;
use quantbound::results::schema::{CellKey, SampleBoundRow};
use quantbound::results::verdict::Verdict;

use crate::common::checker::runner;

/// A table: by depth and image what was measured and what is so, and the bounds beside it.
#[derive(Clone, Debug)]
struct Table {
    /// `[depth][image]`
    measured: Vec<Vec<f64>>,
    /// `[depth][image]`: in f64, and at least; then with twice the digits.
    exact: Vec<Vec<[(f64, f64); 2]>>,
    /// `[bound][depth]`, on all images.
    on_all: Vec<(Arithmetic, Vec<f64>)>,
    /// `[bound][depth][image]`
    on_each: Vec<(Arithmetic, Vec<Vec<f64>>)>,
    batch: usize,
}

/// Few distinct numbers, so that all orders of measurement, bound and what is at least so come up.
fn measurement() -> impl Strategy<Value = f64> {
    prop_oneof![
        12 => (-3i32..4).prop_map(|k| 2f64.powi(k)),
        4 => 0.1f64..10.0,
        2 => Just(0.0),
        1 => Just(1e-310),
        1 => Just(1e300),
    ]
}

fn anything() -> impl Strategy<Value = f64> {
    prop_oneof![
        30 => measurement(),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-1.0)],
    ]
}

fn bound() -> impl Strategy<Value = f64> {
    prop_oneof![
        20 => measurement().prop_map(f64::log10),
        6 => Just(500.0),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
    ]
}

fn exact() -> impl Strategy<Value = [(f64, f64); 2]> {
    [evaluation(), evaluation()]
}

fn evaluation() -> impl Strategy<Value = (f64, f64)> {
    let share = prop_oneof![
        Just(1.0),
        Just(0.75),
        Just(0.0),
        Just(-3.0),
        Just(f64::NEG_INFINITY)
    ];
    (anything(), share).prop_map(|(m, share)| (m, m * share))
}

fn arithmetic() -> impl Strategy<Value = Arithmetic> {
    prop_oneof![2 => Just(Arithmetic::Real), 1 => Just(Arithmetic::Engine)]
}

fn tables() -> impl Strategy<Value = Table> {
    use prop::collection::vec;
    (1usize..5, 1usize..8, 1usize..4).prop_flat_map(|(depths, images, batch)| {
        let per_image = || vec(vec(anything(), images), depths);
        let exact = vec(vec(exact(), images), depths);
        let on_all = vec((arithmetic(), vec(bound(), depths)), 0..4);
        let on_each = vec((arithmetic(), vec(vec(bound(), images), depths)), 0..3);
        (per_image(), exact, on_all, on_each).prop_map(move |(measured, exact, on_all, on_each)| {
            Table {
                measured,
                exact,
                on_all,
                on_each,
                batch,
            }
        })
    })
}

fn key() -> CellKey {
    CellKey {
        cell_id: "cell".into(),
        model: "m".into(),
        quantizer: "q".into(),
        bits: 8,
        granularity: Granularity::PerChannel,
    }
}

fn own(bound: &str, image: usize, depth: usize, log10_bound: f64, measured: f64) -> SampleBoundRow {
    SampleBoundRow {
        cell_id: "cell".into(),
        model: "m".into(),
        quantizer: "q".into(),
        bits: 8,
        granularity: "per-channel".into(),
        bound: bound.into(),
        image: name(image),
        depth: depth as u32 + 1,
        layer: "layer".into(),
        log10_bound,
        capped: 0.0,
        max_abs_diff: measured,
    }
}

fn name(image: usize) -> String {
    format!("{image}.jpg")
}

/// Images in the given order, batch by batch, and what the judge asked for.
fn judged(table: &Table, order: &[usize]) -> (Judged, Vec<(String, Digits)>) {
    let mut judge = Judge::default();
    for (b, (arithmetic, logs)) in table.on_all.iter().enumerate() {
        for (depth, &log) in logs.iter().enumerate() {
            let row = key().bound(&format!("all{b}"), depth as u32 + 1, "layer", log);
            judge.state(&row, *arithmetic);
        }
    }
    for images in order.chunks(table.batch) {
        for (depth, measured) in table.measured.iter().enumerate() {
            for &image in images {
                judge.see(depth as u32 + 1, &name(image), measured[image]);
            }
        }
        for (b, (arithmetic, logs)) in table.on_each.iter().enumerate() {
            for (depth, logs) in logs.iter().enumerate() {
                for &image in images {
                    let measured = table.measured[depth][image];
                    let row = own(&format!("each{b}"), image, depth, logs[image], measured);
                    judge.see_own(&row, *arithmetic);
                }
            }
        }
    }
    let mut asked = Vec::new();
    let judged = judge.conclude("cell", |image, depth, digits| -> Result<_, Infallible> {
        asked.push((image.to_string(), digits));
        let i: usize = image.trim_end_matches(".jpg").parse().unwrap();
        let exact = table.exact[..depth as usize].iter();
        Ok(exact
            .map(|e| Exact {
                max_abs_diff: e[i][digits as usize].0,
                at_least: e[i][digits as usize].1,
            })
            .collect())
    });
    (judged.unwrap(), asked)
}

/// What one image says of one bound: 0 holds, 1 undecided, 2 violated, 3 invalid; and how often it was evaluated again.
fn literally(
    arithmetic: Arithmetic,
    measured: f64,
    exact: [(f64, f64); 2],
    log: f64,
) -> (u8, usize) {
    let above = |x: f64| x > 0.0 && x.log10() > log;
    let number = |x: f64| x.is_finite() && x >= 0.0;
    if !number(measured) || log.is_nan() || log == f64::INFINITY {
        return (3, 0);
    }
    if !above(measured) {
        return (0, 0);
    }
    if arithmetic == Arithmetic::Engine {
        return (2, 0);
    }
    let settled = |(value, least): (f64, f64)| match () {
        () if !number(value) => 3,
        () if !above(value) => 0,
        // Numbers here are either equal or far apart, so that the logarithm's own rounding decides nothing.
        () if least > 0.0 && least.log10() > log + 1e-12 => 2,
        () => 1,
    };
    match settled(exact[0]) {
        1 => (settled(exact[1]), 2),
        verdict => (verdict, 1),
    }
}

/// `[holds, undecided, violated, invalid, cleared, within a decade]` and the smallest slack, by bound.
type Counts = BTreeMap<String, ([u64; 6], Option<f64>)>;

fn literal(table: &Table) -> (Counts, Vec<(Digits, String)>) {
    let mut counts = Counts::new();
    let mut asked = std::collections::BTreeSet::new();
    let images = table.measured[0].len();
    let all = table
        .on_all
        .iter()
        .enumerate()
        .map(|(b, (arithmetic, logs))| {
            let logs: Vec<Vec<f64>> = logs.iter().map(|&l| vec![l; images]).collect();
            (format!("all{b}"), *arithmetic, logs)
        });
    let each = table.on_each.iter().enumerate();
    let each = each.map(|(b, (arithmetic, logs))| (format!("each{b}"), *arithmetic, logs.clone()));
    for (bound, arithmetic, logs) in all.chain(each) {
        for (depth, logs) in logs.iter().enumerate() {
            let mut verdict = 0;
            let mut again = false;
            let mut slack = f64::INFINITY;
            for (image, &log) in logs.iter().enumerate() {
                let (measured, exact) = (table.measured[depth][image], table.exact[depth][image]);
                let (this, needed) = literally(arithmetic, measured, exact, log);
                let digits = [Digits::F64, Digits::Twice];
                asked.extend(digits[..needed].iter().map(|&d| (d, name(image))));
                verdict = verdict.max(this);
                again |= needed > 0;
                let value = match needed {
                    0 => measured,
                    n => exact[n - 1].0,
                };
                if this < 3 && value > 0.0 && log.is_finite() {
                    slack = slack.min(log - value.log10());
                }
            }
            let entry = counts.entry(bound.clone()).or_default();
            entry.0[verdict as usize] += 1;
            entry.0[4] += u64::from(verdict == 0 && again);
            if verdict < 3 && slack.is_finite() {
                entry.0[5] += u64::from(slack <= 1.0);
                entry.1 = Some(entry.1.map_or(slack, |s| s.min(slack)));
            }
        }
    }
    (counts, asked.into_iter().collect())
}

fn counted(judged: &Judged) -> Counts {
    let of = judged.verdicts.iter().map(|v| {
        let c = v.counts;
        let counts = [
            c.holds,
            c.undecided,
            c.violated,
            c.invalid,
            c.cleared,
            c.within_decade,
        ];
        (v.bound.clone(), (counts, c.smallest_slack))
    });
    of.collect()
}

#[test]
fn verdicts_are_those_of_a_literal_judge() {
    let mut seen = [0u64; 6];
    let mut check = |table: &Table| -> Result<(), TestCaseError> {
        let order: Vec<usize> = (0..table.measured[0].len()).collect();
        let (judged, asked) = judged(table, &order);
        let (want, want_asked) = literal(table);
        prop_assert_eq!(counted(&judged), want.clone());
        let asked: Vec<_> = asked
            .into_iter()
            .map(|(image, digits)| (digits, image))
            .collect();
        prop_assert_eq!(asked, want_asked, "each image above a bound, once");
        for (counts, _) in want.values() {
            (0..6).for_each(|k| seen[k] += counts[k]);
        }
        // Every verdict that is no success is told, with the numbers that it rests on.
        let told = judged.findings.len() as u64;
        let bad: u64 = want.values().map(|c| c.0[1..4].iter().sum::<u64>()).sum();
        prop_assert_eq!(told, bad);
        for (verdict, finding) in &judged.findings {
            let image: usize = finding.image.trim_end_matches(".jpg").parse().unwrap();
            let depth = finding.depth as usize - 1;
            let exact = table.exact[depth][image];
            let bits = |x: f64| x.to_bits();
            prop_assert_eq!(bits(finding.measured), bits(table.measured[depth][image]));
            if let Some(f64_measured) = finding.f64_measured {
                let least = finding.f64_at_least.unwrap();
                let found = (bits(f64_measured), bits(least));
                prop_assert!(exact.iter().any(|e| found == (bits(e.0), bits(e.1))));
                prop_assert!(finding.images_in_f64 > 0);
            } else if *verdict != Verdict::Invalid {
                prop_assert_eq!(finding.images_in_f64, 0, "a bound on the engine's numbers");
                prop_assert_eq!(*verdict, Verdict::Violated);
            }
        }
        Ok(())
    };
    let strategy = tables();
    let mut runner = runner(4000);
    for _ in 0..4000 {
        use proptest::strategy::ValueTree;
        let table = strategy.new_tree(&mut runner).unwrap().current();
        if let Err(e) = check(&table) {
            panic!("{e}\n{table:?}");
        }
    }
    assert!(seen.iter().all(|&n| n > 500), "{seen:?}");
}

#[test]
fn the_order_of_images_and_batches_changes_nothing() {
    let cases = (tables(), any::<u64>(), 1usize..5);
    let result = runner(1500).run(&cases, |(table, seed, batch)| {
        let images = table.measured[0].len();
        let mut order: Vec<usize> = (0..images).collect();
        let straight = judged(&table, &order).0;
        let mut random = crate::common::random_network::Random(seed);
        for i in (1..images).rev() {
            order.swap(i, random.below(i + 1));
        }
        let other = Table { batch, ..table };
        let shuffled = judged(&other, &order).0;
        // Two NaN are two ways to write the same.
        prop_assert_eq!(format!("{straight:?}"), format!("{shuffled:?}"));
        Ok(())
    });
    result.unwrap();
}

/// The verdict of each bound and depth, by severity.
fn severities(judged: &Judged, table: &Table) -> BTreeMap<(String, u32), Verdict> {
    let mut found = BTreeMap::new();
    for verdicts in &judged.verdicts {
        for depth in 1..=table.measured.len() as u32 {
            found.insert((verdicts.bound.clone(), depth), Verdict::Holds);
        }
    }
    for (verdict, finding) in &judged.findings {
        found.insert((finding.bound.clone(), finding.depth), *verdict);
    }
    found
}

#[test]
fn a_verdict_never_improves_when_a_measurement_grows() {
    let cases = (
        tables(),
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        prop_oneof![9 => measurement(), 1 => Just(f64::INFINITY)],
    );
    let result = runner(4000).run(&cases, |(table, depth, image, more)| {
        let images = table.measured[0].len();
        let order: Vec<usize> = (0..images).collect();
        let (depth, image) = (depth.index(table.measured.len()), image.index(images));
        let before = severities(&judged(&table, &order).0, &table);
        let mut grown = table.clone();
        // What is measured grows, in the engine and in f64; what is surely there, by as much.
        grown.measured[depth][image] += more;
        for exact in &mut grown.exact[depth][image] {
            *exact = (exact.0 + more, exact.1 + more);
        }
        // No measurement is below zero, and more digits make no number into none.
        let sound = |x: f64| x.is_nan() || x >= 0.0;
        prop_assume!(sound(table.measured[depth][image]));
        let [one, twice] = table.exact[depth][image];
        prop_assume!(sound(one.0) && sound(twice.0));
        prop_assume!(twice.0.is_finite() || !one.0.is_finite());
        let after = severities(&judged(&grown, &order).0, &grown);
        for (place, verdict) in before {
            prop_assert!(
                after[&place] >= verdict,
                "{place:?}: {verdict:?} became {:?}",
                after[&place]
            );
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_bound_beside_nothing_is_invalid() {
    let mut judge = Judge::default();
    judge.state(&key().bound("best", 3, "layer", 1.0), Arithmetic::Real);
    judge.see(2, "a.jpg", 0.5);
    let judged = judge
        .conclude("cell", |_, _, _| -> Result<Vec<Exact>, Infallible> {
            unreachable!("nothing is above")
        })
        .unwrap();
    assert_eq!(judged.verdicts[0].counts.invalid, 1);
    assert_eq!(judged.findings[0].0, Verdict::Invalid);
}
