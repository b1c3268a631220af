//! Every rung against numbers worked out by hand, and against the counts of a known architecture.

use quantbound::bounds::{BoundError, Domain, Setting, find, ladder, standing};
use quantbound::network::{Activation, Conv, INPUT, Linear, Network, Op, Pad, Window, zoo};
use quantbound::tensor::{Shape, Tensor};

fn pointwise(out: usize, weight: &[f32], bias: &[f32]) -> Op {
    Op::Conv(Conv {
        weight: Tensor::new([out, weight.len() / out, 1, 1], weight.to_vec()).unwrap(),
        bias: bias.to_vec(),
        stride: [1, 1],
        pad: Pad::default(),
        dilation: [1, 1],
        groups: 1,
    })
}

fn dense(out: usize, weight: &[f32], bias: &[f32]) -> Op {
    Op::Linear(Linear {
        weight: Tensor::new([out, weight.len() / out], weight.to_vec()).unwrap(),
        bias: bias.to_vec(),
    })
}

/// `4 sigma(x0 - 2 x1 + 0.5) - 1`, and with 1.5 for 2 and 4.5 for 4.
fn two_layers(activation: Activation) -> (Network, Network) {
    let build = |first: f32, second: f32| {
        let mut net = Network::new("two", Shape::vector(2));
        let hidden = pointwise(1, &[1.0, -first], &[0.5]);
        let hidden = net.push("hidden", hidden, &[INPUT], activation).unwrap();
        let output = dense(1, &[second], &[-1.0]);
        net.push("output", output, &[hidden], Activation::Identity)
            .unwrap();
        net
    };
    (build(2.0, 4.0), build(1.5, 4.5))
}

fn evaluate(id: &str, network: &Network, quantized: &Network, domain: &Domain) -> Vec<f64> {
    let setting = Setting::new(network, quantized, domain).unwrap();
    let series = find(id).unwrap().evaluate(&setting).unwrap();
    series.log10.iter().map(|l| 10f64.powf(*l)).collect()
}

fn assert_bounds(id: &str, pair: &(Network, Network), expected: &[f64]) {
    let domain = Domain::symmetric(pair.0.input.c, 3.0);
    let got = evaluate(id, &pair.0, &pair.1, &domain);
    assert_eq!(got.len(), expected.len());
    for (n, (got, expected)) in got.iter().zip(expected).enumerate() {
        let close = (got - expected).abs() <= 1e-9 * expected.abs();
        assert!(close, "{id} at node {n}: got {got}, expected {expected}");
    }
}

#[test]
fn two_layers_with_relu() {
    let pair = two_layers(Activation::Relu);
    // eps 0.5, D 3, widths 2, 1, 1; norms 3 and 4.5, with biases 3.5 and 5.5.
    assert_bounds("gonon2023", &pair, &[3.5, 36.0]);
    assert_bounds("houache2025", &pair, &[3.0 * 3.0 * 0.5, 13.5 * 5.0 * 0.5]);
    assert_bounds("houache2025-conv", &pair, &[4.5, 33.75]);
    assert_bounds(
        "houache2025-arithmetic",
        &pair,
        &[4.5, 9.0 * 3.0 * 5.0 * 0.5],
    );
    assert_bounds("houache2025-conv-arithmetic", &pair, &[4.5, 67.5]);
    // Norms 3 and 4, with biases 3.5 and 5, against 2.5 and 4.5, with biases 3 and 5.5: 4.5 (0.5 * 3) + 0.5 (3.5 * 3), and with
    // the networks exchanged 4 (0.5 * 3) + 0.5 (3 * 3).
    assert_bounds("layer-sum", &pair, &[1.5, 6.0 + 4.5]);
    // min(4.5 * 1.5 + 0.5 * 9.5, 4 * 1.5 + 0.5 * 8)
    for id in [
        "layerwise",
        "channelwise",
        "path-metric",
        "fused",
        "interval",
    ] {
        assert_bounds(id, &pair, &[1.5, 10.0]);
    }
    for id in ["layerwise+cap", "channelwise+cap", "best", "best+cap"] {
        assert_bounds(id, &pair, &[1.5, 10.0]);
    }
    let start = 18f64.sqrt();
    let hidden = 3.25f64.sqrt() * start + 0.5;
    let spectral = [0.5 * start, 4.0 * 0.5 * start + 0.5 * hidden];
    assert_bounds("spectral", &pair, &spectral);
    assert_bounds("spectral-fused", &pair, &spectral);
}

#[test]
fn single_elements_are_bounded_by_rows() {
    // Four inputs in [-3, 3], two outputs x0 + x1 + x2 + x3, doubled: no element moves by more than 12, and a row's norm, 2,
    // times the input's, 6, says so. The norm of the matrix, 2 sqrt(2), does not; nor does it behind the sum with a copy.
    let build = |w: f32| {
        let mut net = Network::new("rows", Shape::vector(4));
        let both = pointwise(2, &[w; 8], &[0.0; 2]);
        let one = net
            .push("one", both.clone(), &[INPUT], Activation::Identity)
            .unwrap();
        let other = net.push("other", both, &[INPUT], Activation::Relu).unwrap();
        net.push("sum", Op::Add, &[one, other], Activation::Identity)
            .unwrap();
        net
    };
    let pair = (build(1.0), build(2.0));
    for id in [
        "spectral",
        "spectral-fused",
        "spectral-fused-rescaled",
        "spectral-averaged",
    ] {
        assert_bounds(id, &pair, &[12.0, 12.0, 24.0]);
    }
}

#[test]
fn layers_that_cancel_across_an_activation_gain_half() {
    // The input's error comes to (x, x) and would leave as x - x were it not for the activation between: of the product of norms,
    // 2, the linear half counts nothing.
    let build = |first: f32| {
        let mut net = Network::new("cancel", Shape::vector(1));
        let layer = dense(1, &[first], &[0.0]);
        net.push("first", layer, &[INPUT], Activation::Relu)
            .unwrap();
        let layer = dense(2, &[1.0, 1.0], &[0.0; 2]);
        net.push("apart", layer, &[1], Activation::Relu).unwrap();
        let layer = dense(1, &[1.0, -1.0], &[0.0]);
        net.push("together", layer, &[2], Activation::Identity)
            .unwrap();
        net
    };
    let pair = (build(1.0), build(2.0));
    assert_bounds("spectral-fused-rescaled", &pair, &[3.0, 3.0, 6.0]);
    assert_bounds("spectral-averaged", &pair, &[3.0, 3.0, 3.0]);
}

/// The second of two channels times `weights` one after the other, ReLU behind each, and times 4 by a depthwise layer.
fn read_by_depthwise(weights: &[f32]) -> Network {
    let mut net = Network::new("read", Shape::vector(2));
    for (i, &w) in weights.iter().enumerate() {
        let layer = pointwise(2, &[w, 0.0, 0.0, w], &[0.0; 2]);
        net.push(format!("layer{i}"), layer, &[i], Activation::Relu)
            .unwrap();
    }
    let each = Op::Conv(Conv {
        weight: Tensor::new([2, 1, 1, 1], vec![1.0, 4.0]).unwrap(),
        bias: vec![0.0; 2],
        stride: [1, 1],
        pad: Pad::default(),
        dilation: [1, 1],
        groups: 2,
    });
    net.push("each", each, &[weights.len()], Activation::Identity)
        .unwrap();
    net
}

#[test]
fn a_depthwise_layer_reads_what_is_new_and_what_came() {
    // At (0, 3) the second output moves from 12 to 15, whether the layer before the depthwise one is other or the one before that.
    for [one, other] in [[&[1.0][..], &[1.25]], [&[1.0, 1.0], &[1.25, 1.0]]] {
        let pair = [one, other].map(read_by_depthwise);
        let domain = Domain::symmetric(2, 3.0);
        let got = evaluate("spectral-averaged", &pair[0], &pair[1], &domain);
        let last = got[got.len() - 1];
        assert!((3.0..6.0).contains(&last), "{got:?}");
    }
}

#[test]
fn every_weight_takes_its_own_least() {
    // Inputs in [-3, 3]: hidden 0 is 2 x and becomes 1.5 x, hidden 1 is x and becomes 1.25 x.
    let build = |hidden: [f32; 2], output: [f32; 2]| {
        let mut net = Network::new("least", Shape::vector(1));
        let layer = dense(2, &hidden, &[0.0; 2]);
        net.push("hidden", layer, &[INPUT], Activation::Relu)
            .unwrap();
        let layer = dense(1, &output, &[0.0]);
        net.push("output", layer, &[1], Activation::Identity)
            .unwrap();
        net
    };
    // e = (1.5, 0.75), m = (6, 3), m' = (4.5, 3.75). The first weight grows from 1 to 2: 1 * 1.5 + 1 * 4.5; the second falls
    // from 3 to 2: 2 * 0.75 + 1 * 3. Either reading of all weights alike is larger: 13.5 and 12.
    let pair = (
        build([2.0, 1.0], [1.0, 3.0]),
        build([1.5, 1.25], [2.0, 2.0]),
    );
    for id in ["channelwise", "path-metric", "fused"] {
        assert_bounds(id, &pair, &[1.5, 10.5]);
    }
    assert_bounds("layerwise", &pair, &[1.5, 4.0 * 1.5 + 2.0 * 4.5]);
    // The second weight changes its sign, from 3 to -1: 3 * 3 + 3.75.
    let pair = (
        build([2.0, 1.0], [1.0, 3.0]),
        build([1.5, 1.25], [2.0, -1.0]),
    );
    assert_bounds("channelwise", &pair, &[1.5, 6.0 + 12.75]);
}

#[test]
fn two_layers_without_activation_are_one() {
    let pair = two_layers(Activation::Identity);
    // [4.5, -6.75] - [4, -8] = [0.5, 1.25]; constants 1.25 - 1.
    assert_bounds("fused", &pair, &[1.5, 1.75 * 3.0 + 0.25]);
    let norm = (0.25f64 + 1.5625).sqrt();
    let domain = Domain::symmetric(2, 3.0);
    let got = evaluate("spectral-fused", &pair.0, &pair.1, &domain)[1];
    let exact = norm * 18f64.sqrt() + 0.25;
    assert!(got >= exact && got < 1.05 * exact, "{got} against {exact}");
    assert_bounds("channelwise", &pair, &[1.5, 10.0]);
}

#[test]
fn one_sided_domains_make_intervals_sharper() {
    let pair = two_layers(Activation::Relu);
    // x in [1, 2]^2: y = x0 - 2 x1 + 0.5 in [-2.5, 0.5], y' in [-1.5, 1], y' - y = x1 / 2 in [0.5, 1].
    let domain = Domain {
        lo: vec![1.0; 2],
        hi: vec![2.0; 2],
    };
    let got = evaluate("interval", &pair.0, &pair.1, &domain);
    assert!((got[0] - 1.0).abs() < 1e-12, "{got:?}");
    // 4 [0, 1] + 0.5 [0, 1]
    assert!((got[1] - 4.5).abs() < 1e-12, "{got:?}");
}

#[test]
fn residual_sums() {
    let build = |w: f32| {
        let mut net = Network::new("residual", Shape::new(1, 2, 2));
        let branch = net
            .push(
                "branch",
                pointwise(1, &[w], &[0.0]),
                &[INPUT],
                Activation::Identity,
            )
            .unwrap();
        net.push("sum", Op::Add, &[INPUT, branch], Activation::Identity)
            .unwrap();
        net
    };
    let pair = (build(2.0), build(2.5));
    for id in [
        "layerwise",
        "channelwise",
        "path-metric",
        "interval",
        "fused",
    ] {
        assert_bounds(id, &pair, &[1.5, 1.5]);
    }
    // Width 4 for the branch alone; with the input kept beside it for the sum of two terms, 8.
    assert_bounds(
        "gonon2023",
        &pair,
        &[4.0 * 3.0 * 0.5, 2.0 * 8.0 * 3.0 * 0.5],
    );
    // One layer, 4 inputs or 1 tap, gain 1 to the sum.
    assert_bounds("houache2025", &pair, &[6.0, 6.0]);
    assert_bounds("houache2025-conv", &pair, &[1.5, 1.5]);
}

#[test]
fn capped_rungs_stop_at_the_range() {
    let build = |w: f32| {
        let mut net = Network::new("capped", Shape::vector(1));
        let conv = pointwise(1, &[w], &[0.0]);
        net.push("conv", conv, &[INPUT], Activation::Relu6).unwrap();
        net
    };
    let pair = (build(100.0), build(-100.0));
    assert_bounds("layerwise", &pair, &[600.0]);
    for id in [
        "layerwise+cap",
        "channelwise+cap",
        "interval+cap",
        "fused+cap",
        "spectral+cap",
        "best+cap",
    ] {
        assert_bounds(id, &pair, &[6.0]);
    }
}

#[test]
fn deep_networks_do_not_overflow() {
    const LAYERS: usize = 200;
    let build = |w: f32| {
        let mut net = Network::new("deep", Shape::vector(1));
        for l in 0..LAYERS {
            let layer = dense(1, &[w], &[1.0]);
            net.push(format!("{l}"), layer, &[l], Activation::Relu)
                .unwrap();
        }
        net
    };
    for (w, q) in [(1e10, 1.5e10), (1e-10, 1.5e-10)] {
        let (network, quantized) = (build(w), build(q));
        let domain = Domain::symmetric(1, 1.0);
        let setting = Setting::new(&network, &quantized, &domain).unwrap();
        for (id, series) in ladder(&setting, None) {
            match series {
                Ok(series) => {
                    assert!(
                        series.log10.iter().all(|l| l.is_finite()),
                        "{id}: {series:?}"
                    );
                    let last = series.log10[LAYERS - 1];
                    assert!(w < 1.0 || last > 2000.0, "{id}: {last}");
                }
                Err(error) => {
                    assert!(id.starts_with("interval") && w > 1.0, "{id}: {error}");
                    assert!(matches!(error, BoundError::OutOfRange { .. }));
                }
            }
        }
        // What is left stands, `best` among it; alone, a rung without numbers is an error.
        let mut notes = Vec::new();
        let all = standing(ladder(&setting, None), |note| notes.push(note)).unwrap();
        assert_eq!(notes.len(), if w < 1.0 { 0 } else { 2 }, "{notes:?}");
        let said = |id: &str| all.iter().any(|(i, _)| i == id);
        assert!(said("best") && said("fused") && said("interval") == (w < 1.0));
        let alone = standing(ladder(&setting, Some(&["interval"])), |_| {});
        assert_eq!(alone.is_ok(), w < 1.0);
    }
    let wrong = BoundError::Assumption {
        node: "a".into(),
        why: "b".into(),
    };
    assert_eq!(
        standing(vec![("x".into(), Err(wrong.clone()))], |_| {}),
        Err(wrong)
    );
}

#[test]
fn paths_under_one_pool() {
    // Two padded taps over one pixel, +1 and +1 against +1 and -1, and the larger of both outputs.
    let build = |second: f32| {
        let mut net = Network::new("pool", Shape::new(1, 1, 1));
        let taps = Op::Conv(Conv {
            weight: Tensor::new([1, 1, 1, 2], vec![1.0, second]).unwrap(),
            bias: vec![0.0],
            stride: [1, 1],
            pad: Pad {
                left: 1,
                right: 1,
                ..Pad::default()
            },
            dilation: [1, 1],
            groups: 1,
        });
        let taps = net
            .push("taps", taps, &[INPUT], Activation::Identity)
            .unwrap();
        let window = Window {
            kernel: [1, 2],
            stride: [1, 2],
            pad: Pad::default(),
        };
        net.push("pool", Op::MaxPool(window), &[taps], Activation::Identity)
            .unwrap();
        net
    };
    // At x = -3 the maxima are -3 and 3. The difference of three passes over pixels would be 0.
    assert_bounds("path-metric", &(build(1.0), build(-1.0)), &[6.0, 6.0]);
}

#[test]
fn counts_of_mobilenet_v2() {
    let network = zoo::skeleton("mobilenet_v2").unwrap();
    let domain = Domain::symmetric(3, 1.0);
    let setting = Setting::new(&network, &network, &domain).unwrap();
    let layers: Vec<_> = (0..network.nodes.len())
        .filter_map(|i| setting.layer(i))
        .collect();
    assert_eq!(layers.len(), 53);
    assert_eq!(layers.iter().map(|l| l.fan_in).sum::<usize>(), 10_100);
    assert_eq!(layers.iter().map(|l| l.inputs).sum::<usize>(), 6_767_200);
}

#[test]
fn normalised_pixels_of_imagenet() {
    let domain = Domain::normalized_pixels(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);
    assert_eq!(domain.magnitude(), 2.640000104904175);
    assert_eq!(domain.lo.len(), 3);
}
