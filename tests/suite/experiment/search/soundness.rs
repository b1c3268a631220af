//! What a search finds is in the box, never under the images and never above a bound.

use std::sync::Mutex;

use proptest::test_runner::TestCaseError;
use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;

use super::methods::{METHODS, run, task};
use crate::common::checker::{all_bounds, measure, runner};
use crate::common::random_network::{Case, Random, cases, sample_input};

/// Box ends that are f32 numbers, so that the search sees the very box of the bounds.
fn rounded(mut case: Case) -> Case {
    let round = |x: &mut f64| *x = f64::from(*x as f32);
    case.domain.lo.iter_mut().for_each(round);
    case.domain.hi.iter_mut().for_each(round);
    case
}

#[test]
fn nothing_found_exceeds_a_bound_or_falls_short_of_the_images() {
    let judged = Mutex::new((0, 0, 0));
    let result = runner(350).run(&cases(6), |case| {
        let mut case = rounded(case);
        let mut random = Random(case.seed);
        let images: Vec<Vec<f32>> = (0..2)
            .map(|_| sample_input(&case.domain, case.network.input, &mut random))
            .map(|x| x.iter().map(|&x| x as f32).collect())
            .collect();
        let bits = 2 + random.below(5) as u32;
        let task = task(&case.network, bits, &case.domain, &images, 48);
        case.quantized = task.quantized.dequantize(&case.network);
        let bounds = all_bounds(&case);
        let engine = CpuEngine::f32(Some(1)).unwrap();
        let values = task.values(&engine as &dyn Engine, &images).unwrap();
        for method in METHODS {
            let record = run(method, &task);
            for value in values.iter().filter(|v| v.is_finite()) {
                if record.best.is_nan() || record.best < *value {
                    let best = record.best;
                    return Err(TestCaseError::fail(format!("found {best}, image {value}")));
                }
            }
            let mut inside = record.input.clone();
            task.region.project(&mut inside);
            if inside != record.input {
                return Err(TestCaseError::fail("left the box"));
            }
            let wide: Vec<f64> = record.input.iter().map(|&x| f64::from(x)).collect();
            let mut judged = judged.lock().unwrap();
            judged.1 += usize::from(record.best > record.before);
            for (n, m) in measure(&case, &wide).into_iter().enumerate() {
                for (id, series) in &bounds {
                    let (log, bound) = (m.log10(), series.log10[n]);
                    // The logarithm of the measurement is itself rounded.
                    let slack = 1e-14 * (1.0 + log.abs());
                    if bound.is_nan() || (m > 0.0 && log - slack > bound) {
                        return Err(TestCaseError::fail(format!(
                            "{method:?}: {id} at node {n}: found {m:e} (log10 {log}), bound {bound}"
                        )));
                    }
                    judged.0 += usize::from(m > 0.0);
                    judged.2 += usize::from(m > 0.0 && bound - log < 2f64.log10());
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let (all, better, tight) = judged.into_inner().unwrap();
    println!("{all} comparisons, {tight} of them tight; {better} searches beat the images");
    // The networks are drawn anew each time: 165 searches beat the images on average, give or take 12.
    assert!(
        all >= 20_000 && tight >= 5_000 && better >= 100,
        "{all} {tight} {better}"
    );
}
