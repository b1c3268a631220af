//! No measurement in f64 exceeds any bound, at any node, on random networks.

use std::sync::Mutex;

use crate::common::checker::{Checks, all_bounds, check, runner};
use crate::common::random_network::{Case, cases};
use proptest::test_runner::TestCaseError;
use quantbound::bounds::{Domain, Series, Setting, registry};
use quantbound::facts;
use quantbound::network::{Activation, Network};

#[test]
fn no_measurement_exceeds_any_bound() {
    let total = Mutex::new(Checks::default());
    let result = runner(2000).run(&cases(7), |case| {
        let checks = check(&case, &all_bounds(&case)).map_err(TestCaseError::fail)?;
        let mut total = total.lock().unwrap();
        total.all += checks.all;
        total.nonzero += checks.nonzero;
        total.tight += checks.tight;
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let total = total.into_inner().unwrap();
    println!("{total:?}");
    assert!(total.nonzero >= 100_000, "{total:?}");
    assert!(total.tight >= 20_000, "{total:?}");
}

#[test]
fn no_perturbation_means_zero() {
    let result = runner(200).run(&cases(6), |mut case| {
        case.quantized = case.network.clone();
        for (id, series) in all_bounds(&case) {
            for (n, &log) in series.log10.iter().enumerate() {
                if log != f64::NEG_INFINITY {
                    return Err(TestCaseError::fail(format!("{id} at node {n}: {log}")));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Rounding upward may lift a sharper bound above a looser one by this much, in log10.
const ROUNDING_SLACK: f64 = 1e-9;

/// Asserts `smaller <= larger` at every node.
fn assert_below(what: &str, smaller: &Series, larger: &Series) -> Result<(), TestCaseError> {
    for (n, (a, b)) in smaller.log10.iter().zip(&larger.log10).enumerate() {
        if a > b && a - b > ROUNDING_SLACK * (1.0 + b.abs()) {
            return Err(TestCaseError::fail(format!(
                "{what} at node {n}: {a} > {b}"
            )));
        }
    }
    Ok(())
}

/// Pairs of a sharper and a looser bound.
const ORDER: &[(&str, &str)] = &[
    ("houache2025", "houache2025-arithmetic"),
    ("houache2025-conv", "houache2025"),
    ("houache2025-conv", "houache2025-conv-arithmetic"),
    ("layer-sum-eps", "houache2025-conv"),
    ("layer-sum-layer-eps", "layer-sum-eps"),
    ("layer-sum", "layer-sum-layer-eps"),
    ("layerwise", "houache2025-conv"),
    ("layerwise", "gonon2023"),
    ("layerwise+cap", "layerwise"),
    ("channelwise", "layerwise"),
    ("channelwise", "path-metric"),
    ("channelwise+cap", "channelwise"),
    ("channelwise+cap", "layerwise+cap"),
    ("interval", "channelwise"),
    ("interval+cap", "interval"),
    ("fused", "channelwise"),
    ("fused+cap", "fused"),
    ("fused+cap", "channelwise+cap"),
    ("spectral+cap", "spectral"),
    ("spectral-fused", "spectral"),
    ("spectral-fused+cap", "spectral+cap"),
    ("spectral-fused+cap", "spectral-fused"),
    ("best+cap", "best"),
];

/// True when no kernel has more taps than its input map has values.
fn kernels_fit(network: &Network) -> bool {
    let layers = network.nodes.iter().filter_map(|n| Some((n, n.affine()?)));
    layers
        .map(|(n, a)| (a.fan_in(), network.shape(n.inputs[0]).len()))
        .all(|(taps, values)| taps <= values)
}

#[test]
fn sharper_bounds_are_never_above_looser_ones() {
    let result = runner(500).run(&cases(7), |case| {
        let all = all_bounds(&case);
        let get = |id: &str| &all.iter().find(|(i, _)| i == id).unwrap().1;
        let counts_map = |id: &str| ["gonon2023", "houache2025"].contains(&id);
        for (sharp, loose) in ORDER {
            // Counting the values of a map smaller than the kernel beats counting the kernel's taps.
            if counts_map(loose) && !kernels_fit(&case.network) {
                continue;
            }
            assert_below(&format!("{sharp} <= {loose}"), get(sharp), get(loose))?;
        }
        for (id, series) in &all {
            assert_below(&format!("best+cap <= {id}"), get("best+cap"), series)?;
            if facts::is_plain(id) {
                assert_below(&format!("best <= {id}"), get("best"), series)?;
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// `quantized` with every parameter moved to `1 + 1/factor` of its distance from `network`; the distance grows
/// exactly, weight by weight, without changing its sign, and magnitudes never shrink.
fn farther(case: &Case) -> Case {
    let mut far = case.clone();
    for (node, original) in far.quantized.nodes.iter_mut().zip(&case.network.nodes) {
        let Some(a) = original.affine() else { continue };
        let spread = |w: f32, q: f32| {
            if q.abs() >= w.abs() {
                q + (q - w) * 0.5
            } else {
                w
            }
        };
        let weight: Vec<f32> = match node.affine() {
            Some(b) => a
                .weight
                .iter()
                .zip(b.weight)
                .map(|(&w, &q)| spread(w, q))
                .collect(),
            None => continue,
        };
        node.weight_mut()
            .unwrap()
            .data_mut()
            .copy_from_slice(&weight);
    }
    far
}

/// `quantized` kept only where it is not smaller in magnitude, so that norms of W' are at least those of W.
fn outward(case: &Case) -> Case {
    let mut out = case.clone();
    for (node, original) in out.quantized.nodes.iter_mut().zip(&case.network.nodes) {
        let Some(a) = original.affine() else { continue };
        let weight: Vec<f32> = match node.affine() {
            Some(b) => {
                let pairs = a.weight.iter().zip(b.weight);
                pairs
                    .map(|(&w, &q)| if q.abs() >= w.abs() { q } else { w })
                    .collect()
            }
            None => continue,
        };
        node.weight_mut()
            .unwrap()
            .data_mut()
            .copy_from_slice(&weight);
    }
    out
}

/// Bounds that see parameters only through magnitudes.
const MONOTONE: &[&str] = &[
    "gonon2023",
    "houache2025-arithmetic",
    "houache2025",
    "houache2025-conv-arithmetic",
    "houache2025-conv",
    "layerwise",
    "layerwise+cap",
    "path-metric",
    "channelwise",
    "channelwise+cap",
];

#[test]
fn bounds_grow_with_the_perturbation() {
    let result = runner(300).run(&cases(6), |case| {
        let (near, far) = (
            all_bounds(&outward(&case)),
            all_bounds(&farther(&outward(&case))),
        );
        for ((id, near), (_, far)) in near.iter().zip(&far) {
            // Signs and cancellation are not monotone in the magnitude of a change.
            if !MONOTONE.contains(&id.as_str()) {
                continue;
            }
            assert_below(&format!("{id} of the smaller perturbation"), near, far)?;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let mut runner = runner(1);
    let case = proptest::strategy::Strategy::new_tree(&cases(3), &mut runner).unwrap();
    let case = proptest::strategy::ValueTree::current(&case);
    let refuse = |network: &Network, quantized: &Network, domain: &Domain| {
        Setting::new(network, quantized, domain)
            .unwrap_err()
            .to_string()
    };
    let channels = case.network.input.c;
    let narrow = Domain::symmetric(channels + 1, 1.0);
    assert!(refuse(&case.network, &case.quantized, &narrow).contains("input"));
    let endless = Domain::symmetric(channels, f64::INFINITY);
    assert!(refuse(&case.network, &case.quantized, &endless).contains("finite interval"));
    let mut shorter = case.quantized.clone();
    shorter.nodes.pop();
    assert!(refuse(&case.network, &shorter, &case.domain).contains("one graph"));
    let mut other = case.quantized.clone();
    other.nodes[0].activation = match other.nodes[0].activation {
        Activation::Relu => Activation::Relu6,
        _ => Activation::Relu,
    };
    assert!(refuse(&case.network, &other, &case.domain).contains("differs"));
    let mut broken = case.network.clone();
    let layer = broken.layers().next();
    if let Some(layer) = layer {
        broken.nodes[layer].bias_mut().unwrap()[0] = f32::NAN;
        assert!(refuse(&broken, &case.quantized, &case.domain).contains("NaN"));
    }
}

#[test]
fn ids_are_unique_and_unknown_ones_are_named() {
    let mut ids: Vec<_> = registry().iter().map(|b| b.facts().id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), registry().len());
    let error = quantbound::bounds::find("channelwize")
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("did you mean \"channelwise\"?"), "{error}");
}
