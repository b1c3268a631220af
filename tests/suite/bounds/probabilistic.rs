//! Statements over a distribution of images: check values, exact arithmetic on small cases, and coverage by simulation
//! on laws with ties, discrete ones and heavy tails.

use quantbound::bounds::probabilistic::{
    THEOREMS, Tail, TailError, binomial, curve, mean, moments, next_image, selection, together,
    tolerance,
};

use crate::common::random::Random;

fn uniform(random: &mut Random) -> f64 {
    ((random.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// A law with its exceedance `P(Z > z)`.
struct Law {
    name: &'static str,
    draw: fn(f64) -> f64,
    above: fn(f64) -> f64,
}

const LAWS: [Law; 4] = [
    Law {
        name: "uniform",
        draw: |u| u,
        above: |z| (1.0 - z).clamp(0.0, 1.0),
    },
    Law {
        name: "rare flips",
        draw: |u| f64::from(u8::from(u < 0.07)),
        above: |z| {
            if z < 0.0 {
                1.0
            } else if z < 1.0 {
                0.07
            } else {
                0.0
            }
        },
    },
    Law {
        name: "few values",
        // P(Z = j) = 2^-(j+1).
        draw: |u| (-(u.log2())).floor(),
        above: |z| {
            if z < 0.0 {
                1.0
            } else {
                0.5f64.powf(z.floor() + 1.0)
            }
        },
    },
    Law {
        name: "no mean",
        draw: |u| 1.0 / u,
        above: |z| if z <= 1.0 { 1.0 } else { 1.0 / z },
    },
];

/// Asserts that a failure rate is not above `stated`, beyond 4 standard errors.
fn at_most(failures: usize, draws: usize, stated: f64, what: &str) {
    let rate = failures as f64 / draws as f64;
    let error = (stated * (1.0 - stated) / draws as f64).sqrt();
    assert!(
        rate <= stated + 4.0 * error,
        "{what}: fails in {rate} of {draws} draws, stated {stated}"
    );
}

fn sample(law: &Law, n: usize, random: &mut Random) -> Vec<f64> {
    (0..n).map(|_| (law.draw)(uniform(random))).collect()
}

#[test]
fn shares_that_a_sample_supports() {
    let at = |n, k| 100.0 * (1.0 - tolerance::supported(n, k, 0.95));
    for (n, want) in [
        (20, [13.9, 21.6, 28.3]),
        (59, [4.95, 7.8, 10.3]),
        (256, [1.16, 1.84, 2.44]),
        (1000, [0.299, 0.473, 0.628]),
    ] {
        for (k, want) in (1..).zip(want) {
            let unit = if want < 1.0 {
                0.0005
            } else if want == 4.95 || n == 256 {
                0.005
            } else {
                0.05
            };
            let got = at(n, k);
            assert!(
                (got - want).abs() <= unit * 1.01,
                "n {n} k {k}: {got}, not {want}"
            );
        }
    }
    assert!((at(50_000, 1) - 0.0060).abs() < 0.00005);
    let needed = |eps| [1, 2, 3].map(|k| binomial::images_needed(k, eps, 0.05));
    assert_eq!(needed(0.05), [59, 93, 124]);
    assert_eq!(needed(0.01), [299, 473, 628]);
}

#[test]
fn the_largest_of_a_sample_has_its_closed_form() {
    for n in [1, 2, 20, 59, 1000] {
        for confidence in [0.5, 0.9, 0.95, 0.999] {
            let eps = 1.0 - (1.0f64 - confidence).powf(1.0 / n as f64);
            let got = 1.0 - tolerance::supported(n, 1, confidence);
            assert!(
                got >= eps * (1.0 - 1e-12) && got <= eps * (1.0 + 1e-9),
                "{n} {confidence}"
            );
        }
    }
}

/// Sums of integers: `C(n, i)` exactly.
fn choose(n: u64, k: u64) -> f64 {
    (0..k).fold(1u128, |c, i| c * u128::from(n - i) / u128::from(i + 1)) as f64
}

#[test]
fn tails_are_at_or_above_their_sums_and_close() {
    for n in [1u64, 5, 17, 40] {
        for p in [0.001, 0.05, 0.5, 0.93] {
            for m in 0..=n {
                let exact: f64 = (0..=m)
                    .map(|i| {
                        choose(n, i) * f64::powi(p, i as i32) * f64::powi(1.0 - p, (n - i) as i32)
                    })
                    .sum();
                let got = binomial::at_most(n, p, m);
                assert!(
                    got >= (exact * (1.0 - 1e-13)).min(1.0) && got <= exact * (1.0 + 1e-9) + 1e-300,
                    "{n} {p} {m}: {got} {exact}"
                );
            }
        }
    }
    for (all, marked, n) in [(20u64, 5u64, 8u64), (30, 20, 15), (12, 12, 4), (40, 1, 39)] {
        for m in 0..=n {
            let exact: f64 = (0..=m)
                .filter(|&i| i <= marked && n - i <= all - marked)
                .map(|i| choose(marked, i) * choose(all - marked, n - i) / choose(all, n))
                .sum();
            let got = binomial::drawn_at_most(all, marked, n, m);
            assert!(
                (got - exact).abs() <= 1e-9 && got >= exact.min(1.0) - 1e-13,
                "{all} {marked} {n} {m}: {got} {exact}"
            );
        }
    }
}

#[test]
fn tolerance_limits_cover_as_stated() {
    let mut random = Random(11);
    for law in &LAWS {
        for (n, coverage, confidence) in [
            (12, 0.7, 0.95),
            (40, 0.9, 0.9),
            (200, 0.95, 0.95),
            (1000, 0.99, 0.8),
        ] {
            let draws = if n == 1000 { 1500 } else { 4000 };
            let failures = (0..draws)
                .filter(|_| {
                    let tail = tolerance::tail(&sample(law, n, &mut random), coverage, confidence)
                        .unwrap();
                    (law.above)(tail.value) > 1.0 - coverage
                })
                .count();
            at_most(
                failures,
                draws,
                1.0 - confidence,
                &format!("{} n {n}", law.name),
            );
        }
    }
}

/// Neither too bold nor needlessly timid: on a continuous law the failure rate comes near what is stated.
#[test]
fn tolerance_limits_spend_their_confidence() {
    let mut random = Random(12);
    let (n, coverage, confidence) = (473, 0.99, 0.95);
    let draws = 4000;
    let failures = (0..draws)
        .filter(|_| {
            let tail =
                tolerance::tail(&sample(&LAWS[0], n, &mut random), coverage, confidence).unwrap();
            assert_eq!(tail.k, 2);
            (LAWS[0].above)(tail.value) > 1.0 - coverage
        })
        .count();
    let rate = failures as f64 / draws as f64;
    assert!((0.035..0.065).contains(&rate), "{rate}");
}

#[test]
fn the_next_image_exceeds_as_rarely_as_stated() {
    let mut random = Random(13);
    for law in &LAWS {
        for (n, coverage) in [(12, 0.8), (40, 0.95), (200, 0.99)] {
            let draws = 6000;
            let (mut ranked, mut estimated) = (0, 0);
            let mut stated: Option<(f64, f64)> = None;
            for _ in 0..draws {
                let samples = sample(law, n, &mut random);
                let next = (law.draw)(uniform(&mut random));
                let a = next_image::tail(&samples, coverage).unwrap();
                let b = moments::tail(&samples, coverage).unwrap();
                ranked += usize::from(next > a.value);
                estimated += usize::from(next > b.value);
                stated = Some((a.coverage, b.coverage));
                assert!(a.coverage >= coverage && b.coverage >= coverage);
            }
            let (a, b) = stated.unwrap();
            at_most(
                ranked,
                draws,
                1.0 - a,
                &format!("next image, {} n {n}", law.name),
            );
            at_most(
                estimated,
                draws,
                1.0 - b,
                &format!("moments, {} n {n}", law.name),
            );
        }
    }
}

/// Depths that move together, against each other, and one that is always 0.
#[test]
fn all_depths_hold_together() {
    let mut random = Random(14);
    let scales = [1.0, 3.0, 0.5, 0.0];
    let image = |u: f64| vec![u, 3.0 * (1.0 - u), 0.5 * (2.0 * u - 1.0).abs(), 0.0];
    let (n, coverage, confidence, draws) = (60, 0.95, 0.95, 3000);
    let mut failures = 0;
    for _ in 0..draws {
        let images: Vec<Vec<f64>> = (0..n).map(|_| image(uniform(&mut random))).collect();
        let all = together::tails(&images, &scales, coverage, confidence).unwrap();
        assert_eq!(all.values[3], None);
        let bound = all.values[0].unwrap();
        // The largest scaled number is max(u, 1 - u): above `bound` with probability 2 (1 - bound).
        assert!((all.values[1].unwrap() / 3.0 - bound).abs() < 1e-12);
        failures += usize::from(2.0 * (1.0 - bound) > 1.0 - coverage);
    }
    at_most(failures, draws, 1.0 - confidence, "together");
}

#[test]
fn curves_and_rates_cover_as_stated() {
    let mut random = Random(15);
    for law in &LAWS {
        for n in [12, 100, 400] {
            let (confidence, draws) = (0.9, 2000);
            let (mut curves, mut rates) = (0, 0);
            for _ in 0..draws {
                let samples = sample(law, n, &mut random);
                let coverages = [0.5, 0.6, 0.8, 0.9, 0.95];
                curves += usize::from(coverages.iter().any(|&c| {
                    curve::tail(&samples, c, confidence)
                        .is_ok_and(|t| (law.above)(t.value) > 1.0 - c)
                }));
                let tolerance = 0.9;
                let bound = curve::exceedance(&samples, tolerance, confidence).unwrap();
                rates += usize::from((law.above)(tolerance) > bound);
            }
            at_most(
                curves,
                draws,
                1.0 - confidence,
                &format!("curve, {} n {n}", law.name),
            );
            at_most(
                rates,
                draws,
                1.0 - confidence,
                &format!("rate, {} n {n}", law.name),
            );
        }
    }
}

#[test]
fn means_cover_as_stated() {
    let mut random = Random(16);
    // Numbers in [0, 6] with their mean.
    type Bounded = (fn(f64) -> f64, f64);
    let laws: [Bounded; 3] = [
        (|u| 6.0 * u, 3.0),
        (|u| if u < 0.02 { 6.0 } else { 0.0 }, 0.12),
        (|u| 6.0 * u.powi(5), 1.0),
    ];
    for (draw, truth) in laws {
        for n in [12, 200] {
            let (confidence, draws) = (0.9, 3000);
            let (mut hoeffding, mut bernstein) = (0, 0);
            for _ in 0..draws {
                let samples: Vec<f64> = (0..n).map(|_| draw(uniform(&mut random))).collect();
                hoeffding +=
                    usize::from(mean::hoeffding(&samples, 6.0, confidence).unwrap() < truth);
                bernstein +=
                    usize::from(mean::bernstein(&samples, 6.0, confidence).unwrap() < truth);
            }
            at_most(hoeffding, draws, 1.0 - confidence, "hoeffding");
            at_most(bernstein, draws, 1.0 - confidence, "bernstein");
        }
    }
}

#[test]
fn estimated_moments_cost_a_little() {
    // Nominal 5 % (k^2 = 19) of 256 values is 13 of 257.
    assert_eq!(moments::rate(256, 19f64.sqrt()), 13.0 / 257.0);
    assert_eq!(moments::rate(1, 5.0), 1.0);
    assert_eq!(moments::rate(100, f64::NAN), 1.0);
    let flat = moments::tail(&[2.0; 50], 0.9).unwrap();
    assert!(flat.value >= 2.0 && flat.value < 2.0 + 1e-12);
}

#[test]
fn a_folder_drawn_without_replacement_is_covered() {
    let mut random = Random(17);
    let (all, marked, n, confidence, draws) = (60u64, 6u64, 25u64, 0.9, 4000);
    let mut failures = 0;
    for _ in 0..draws {
        let mut order: Vec<u64> = (0..all).collect();
        for i in 0..n as usize {
            let j = i + (random.bits() % (all - i as u64)) as usize;
            order.swap(i, j);
        }
        let seen = order[..n as usize].iter().filter(|&&i| i < marked).count() as u64;
        let share = binomial::share_of_folder(all, n, seen, 1.0 - confidence);
        failures += usize::from((marked as f64) > share * all as f64);
    }
    at_most(failures, draws, 1.0 - confidence, "folder");
    // The whole folder seen: the share is what was seen.
    assert!((binomial::share_of_folder(50, 50, 3, 0.05) - 0.06).abs() < 1e-12);
}

/// The best of K statements, each at its own confidence, must hold as often as stated.
#[test]
fn the_best_of_several_pays_for_the_choice() {
    let mut random = Random(18);
    let (cells, n, coverage, confidence, draws) = (8, 400, 0.95, 0.9, 1500);
    let each = selection::each_of(cells, confidence);
    let (mut honest, mut careless) = (0, 0);
    for _ in 0..draws {
        // Cells of one law, seen on other images each: the smallest value is the boldest.
        let samples: Vec<Vec<f64>> = (0..cells)
            .map(|_| sample(&LAWS[0], n, &mut random))
            .collect();
        let best = |confidence| {
            let values = samples
                .iter()
                .map(|s| tolerance::tail(s, coverage, confidence).unwrap().value);
            values.fold(f64::INFINITY, f64::min)
        };
        honest += usize::from((LAWS[0].above)(best(each)) > 1.0 - coverage);
        careless += usize::from((LAWS[0].above)(best(confidence)) > 1.0 - coverage);
    }
    at_most(honest, draws, 1.0 - confidence, "best of 8");
    assert!(
        careless as f64 > 0.3 * draws as f64,
        "choosing is free? {careless}"
    );
    let nights: f64 = (1..200_000)
        .map(|k| 1.0 - selection::of_night(k, 0.95))
        .sum();
    assert!(nights <= 0.05 && nights > 0.0499, "{nights}");
}

#[test]
fn a_width_found_on_the_way_down_costs_nothing_more() {
    let mut random = Random(19);
    let (n, coverage, confidence, draws) = (60, 0.95, 0.95, 3000);
    // The two widest keep nearly every image under the tolerance; six more leave a little more out than they may.
    let tau = 1.0 - (1.0 - coverage) * (1.0 + 1e-9);
    let (mut down, mut anywhere) = (0, 0);
    for _ in 0..draws {
        let values: Vec<(u32, Option<f64>)> = (0..8u32)
            .map(|i| {
                let scale = if i < 2 { 0.5 } else { 1.0 };
                let z: Vec<f64> = sample(&LAWS[0], n, &mut random);
                let z: Vec<f64> = z.iter().map(|z| scale * z).collect();
                let tail = tolerance::tail(&z, coverage, confidence).unwrap();
                (16 - i, Some(tail.value))
            })
            .collect();
        let found = selection::narrowest(values.iter().copied(), tau);
        down += usize::from(found.is_some_and(|bits| bits < 15));
        let lucky = values.iter().filter(|(_, v)| v.is_some_and(|v| v <= tau));
        anywhere += usize::from(lucky.map(|(b, _)| *b).min() < Some(15));
    }
    at_most(down, draws, 1.0 - confidence, "on the way down");
    assert!(
        anywhere as f64 > 0.2 * draws as f64,
        "the order does not matter? {anywhere}"
    );
    let widths = |values: [Option<f64>; 3]| [8, 6, 4].into_iter().zip(values);
    for (values, found) in [
        ([Some(0.1), Some(0.2), Some(0.3)], Some(6)),
        ([Some(0.1), None, Some(0.1)], Some(8)),
        ([Some(0.1), Some(f64::NAN), Some(0.1)], Some(8)),
        ([Some(0.3), Some(0.1), Some(0.1)], None),
    ] {
        assert_eq!(selection::narrowest(widths(values), 0.2), found);
    }
}

#[test]
fn what_is_not_finite_counts_as_infinite() {
    let mut samples = vec![1.0; 58];
    samples.push(f64::NAN);
    let tail = tolerance::tail(&samples, 0.95, 0.95).unwrap();
    assert_eq!((tail.value, tail.k), (f64::INFINITY, 1));
    let images: Vec<Vec<f64>> = samples.iter().map(|&z| vec![z, 1.0]).collect();
    let all = together::tails(&images, &[1.0, 1.0], 0.95, 0.95).unwrap();
    assert_eq!(all.values, [Some(f64::INFINITY), Some(f64::INFINITY)]);
    assert_eq!(curve::exceedance(&[f64::NAN; 10], 1.0, 0.95).unwrap(), 1.0);
    assert!(moments::tail(&samples, 0.9).is_err());
    assert!(mean::hoeffding(&[f64::NAN], 1.0, 0.9).is_err());
}

#[test]
fn too_few_images_are_told_how_many_would_do() {
    let error = tolerance::tail(&[0.0; 20], 0.99, 0.95).unwrap_err();
    let TailError::TooFew {
        needed, supported, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(*needed, 299);
    assert!((supported - 0.861).abs() < 0.001, "{supported}");
    let text = error.to_string();
    assert!(
        text.contains("299 are needed") && text.contains("20 images support 86.0"),
        "{text}"
    );
    assert!(matches!(
        next_image::tail(&[0.0; 20], 0.99),
        Err(TailError::TooFew { needed: 100, .. })
    ));
    for bad in [0.0, 1.0, -0.5, f64::NAN] {
        assert!(matches!(
            tolerance::tail(&[0.0; 20], bad, 0.9),
            Err(TailError::Probability { .. })
        ));
    }
    let mut ids: Vec<&str> = THEOREMS.iter().map(|t| t.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), THEOREMS.len());
    let _: fn(&[f64], f64, f64) -> Result<Tail, TailError> = tolerance::tail;
}
