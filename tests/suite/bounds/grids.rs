//! Bounds of networks whose activations are rounded: no rounding that the theorem allows exceeds one.

use std::sync::Mutex;

use proptest::test_runner::TestCaseError;
use quantbound::bounds::{BoundError, Domain, Series, Setting, find, ladder, standing};
use quantbound::facts;
use quantbound::network::{Activation, INPUT, Linear, Network, Op};
use quantbound::quant::{At, QuantizedActivation};
use quantbound::tensor::{Shape, Tensor};

use crate::common::checker::runner;
use crate::common::grids::{forward, grids};
use crate::common::naive;
use crate::common::random_network::{Case, Random, cases, sample_input};

/// Which of the roundings that the theorem allows.
#[derive(Clone, Copy, Debug)]
enum Rounding {
    Nearest,
    /// Half a step up, or down, or anywhere between.
    Up,
    Down,
    Any,
}

/// `clamp(v)` for a `v` at most half a step from `x`, on its side of zero.
fn round(how: Rounding, grid: &QuantizedActivation, x: f64, random: &mut Random) -> f64 {
    let (lo, hi) = grid.ends();
    let scale = f64::from(grid.scale);
    let moved = match how {
        Rounding::Nearest => return ((x / scale).round_ties_even() * scale).clamp(lo, hi),
        Rounding::Up => 0.5 * scale,
        Rounding::Down => -0.5 * scale,
        Rounding::Any => scale * (random.unit() - 0.5),
    };
    let v = match x {
        0.0 => 0.0,
        _ if x > 0.0 => (x + moved).max(0.0),
        _ => (x + moved).min(0.0),
    };
    v.clamp(lo, hi)
}

fn case_grids(case: &Case) -> (Vec<QuantizedActivation>, Random) {
    let mut random = Random(case.seed ^ 0x9d);
    let input = sample_input(&case.domain, case.network.input, &mut random);
    let values = naive::forward(&case.network, &input);
    let grids = grids(&case.network, &values, &mut random);
    (grids, random)
}

fn all(case: &Case, grids: &[QuantizedActivation]) -> Vec<(String, Series)> {
    let setting = Setting::new(&case.network, &case.quantized, &case.domain);
    let setting = setting.unwrap().rounding(grids).unwrap();
    let all = ladder(&setting, None).into_iter();
    all.map(|(id, series)| (id, series.unwrap())).collect()
}

#[test]
fn no_rounding_exceeds_a_bound() {
    let total = Mutex::new([0usize; 3]);
    let result = runner(1500).run(&cases(7), |case| {
        let (grids, mut random) = case_grids(&case);
        let bounds = all(&case, &grids);
        let mut total = total.lock().unwrap();
        for how in [
            Rounding::Nearest,
            Rounding::Up,
            Rounding::Down,
            Rounding::Any,
            Rounding::Any,
        ] {
            let input = sample_input(&case.domain, case.network.input, &mut random);
            let reference = naive::forward(&case.network, &input);
            let other = forward(&case.quantized, &grids, &input, &mut |grid, x| {
                round(how, grid, x, &mut random)
            });
            for (n, (y, q)) in reference.iter().zip(&other).enumerate() {
                let largest = |v: &[f64]| v.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
                let pairs = y.iter().zip(q);
                let found = pairs.map(|(y, q)| (q - y).abs()).fold(0.0, f64::max);
                // What rounding in f64 may have added: magnitudes in between are larger than those at the end.
                let inner = reference[..=n].iter().chain(&other[..=n]);
                let found = found - 1e-9 * inner.map(|v| largest(v)).fold(0.0, f64::max);
                for (id, series) in &bounds {
                    let bound = 10f64.powf(series.log10[n]) * (1.0 + 1e-9);
                    if found > bound || series.log10[n].is_nan() {
                        return Err(TestCaseError::fail(format!(
                            "{id} at node {n}, {how:?}: found {found:e} above {bound:e}; {grids:?}"
                        )));
                    }
                    total[0] += 1;
                    total[1] += usize::from(found > 0.0);
                    total[2] += usize::from(found > 0.0 && bound < 2.0 * found);
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let [all, nonzero, tight] = total.into_inner().unwrap();
    println!("{all} comparisons, {nonzero} of a difference, {tight} within a factor of two");
    assert!(nonzero > 50_000 && tight > 2_000, "{nonzero} {tight}");
}

#[test]
fn sharper_bounds_stay_below_looser_ones() {
    let order = [
        ("channelwise+cap", "channelwise"),
        ("interval", "channelwise"),
        ("interval+cap", "interval"),
        ("best", "interval"),
        ("best+cap", "best"),
    ];
    let result = runner(500).run(&cases(7), |case| {
        let bounds = all(&case, &case_grids(&case).0);
        let get = |id: &str| &bounds.iter().find(|(i, _)| i == id).unwrap().1.log10;
        for (sharp, loose) in order {
            for (n, (a, b)) in get(sharp).iter().zip(get(loose)).enumerate() {
                if *a > b + 1e-9 * (1.0 + b.abs()) {
                    let what = format!("{sharp} <= {loose} at node {n}: {a} > {b}");
                    return Err(TestCaseError::fail(what));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// `sigma(x)` with one weight, and 5/4 for it.
fn one_layer(activation: Activation) -> [Network; 2] {
    [1.0, 1.25].map(|w| {
        let mut network = Network::new("one", Shape::vector(1));
        let layer = Op::Linear(Linear {
            weight: Tensor::new([1, 1], vec![w]).unwrap(),
            bias: vec![0.0],
        });
        network.push("layer", layer, &[INPUT], activation).unwrap();
        network
    })
}

fn evaluate(pair: &[Network; 2], grid: QuantizedActivation, ends: (f64, f64), id: &str) -> f64 {
    let domain = Domain {
        lo: vec![ends.0],
        hi: vec![ends.1],
    };
    let setting = Setting::new(&pair[0], &pair[1], &domain).unwrap();
    let setting = setting.rounding(&[grid]).unwrap();
    let series = find(id).unwrap().evaluate(&setting).unwrap();
    10f64.powf(series.log10[0])
}

#[test]
fn one_layer_by_hand() {
    let grid = QuantizedActivation {
        node: 0,
        at: At::Output,
        bits: 4,
        scale: 0.5,
        zero_point: 0,
        channel: None,
    };
    let near = |got: f64, want: f64| assert!(got >= want && got < want + 1e-4, "{got}, {want}");
    let relu = one_layer(Activation::Relu);
    // A quarter of 4 and half of 0.5; the grid ends at 7.5, beyond 5.
    near(evaluate(&relu, grid, (0.0, 4.0), "channelwise"), 1.25);
    near(evaluate(&relu, grid, (0.0, 4.0), "interval"), 1.25);
    // y' = 10 is cut at 7.5 and y = 8 lies 0.5 beyond: either way of the triangle.
    near(
        evaluate(&relu, grid, (0.0, 8.0), "channelwise"),
        2.0 + 0.25 + 0.5,
    );
    // Upward nothing is beyond the grid's start, downward half a step and 0.5.
    near(evaluate(&relu, grid, (0.0, 8.0), "interval"), 2.25);
    // Dead units stay zero, on every grid.
    assert_eq!(evaluate(&relu, grid, (-4.0, -1.0), "interval"), 0.0);
    // Before the activation the grid ends at 0 below: what is negative becomes 0, as it would behind it.
    let inner = QuantizedActivation {
        at: At::Inner,
        ..grid
    };
    near(evaluate(&relu, inner, (0.0, 4.0), "interval"), 1.25);
    // On the input alone: the weights share 1 of what it is off by, and a quarter of 4.25 is one's own.
    let read = QuantizedActivation {
        at: At::Input(0),
        ..grid
    };
    near(
        evaluate(&relu, read, (0.0, 4.0), "channelwise"),
        0.25 + 0.25 * 4.25,
    );
    // A grid without negative values loses all 4, and half a step.
    let identity = one_layer(Activation::Identity);
    near(evaluate(&identity, grid, (-4.0, 0.0), "interval"), 4.25);
    near(
        evaluate(&identity, grid, (-4.0, 0.0), "channelwise"),
        1.0 + 0.25 + 4.0,
    );
}

#[test]
fn who_speaks_of_rounded_activations() {
    let pair = one_layer(Activation::Relu);
    let domain = Domain::symmetric(1, 1.0);
    let grid = QuantizedActivation {
        bits: 8,
        scale: 0.1,
        ..QuantizedActivation::default()
    };
    let setting = || Setting::new(&pair[0], &pair[1], &domain).unwrap();
    let rounding = setting().rounding(&[grid]).unwrap();
    assert!(rounding.rounds_activations() && !setting().rounds_activations());
    let known: Vec<_> = facts::rounding_activations().map(|f| f.id).collect();
    let said: Vec<_> = standing(ladder(&rounding, None), |_| ()).unwrap();
    assert_eq!(
        said.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
        known
    );
    assert!(known.contains(&"interval") && known.contains(&"best"));
    // The others are refused, one by one and where nothing else was asked for.
    let error = find("fused").unwrap().evaluate(&rounding).unwrap_err();
    assert!(error.to_string().contains("channelwise"), "{error}");
    assert!(standing(ladder(&rounding, Some(&["layerwise"])), |_| ()).is_err());
    let some = standing(ladder(&rounding, Some(&["layerwise", "interval"])), |_| ());
    assert_eq!(some.unwrap().len(), 1);
    let best = find("best").unwrap().evaluate(&rounding).unwrap();
    assert_eq!(best, said.iter().find(|(id, _)| id == "best").unwrap().1);
    let far = QuantizedActivation { node: 7, ..grid };
    assert!(matches!(
        setting().rounding(&[far]),
        Err(BoundError::Assumption { .. })
    ));
}
