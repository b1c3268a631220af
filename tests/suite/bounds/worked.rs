//! The examples of docs/bounds.md, "Worked by hand", evaluated: every bound and every other theorem on two layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quantbound::bounds::a_priori::a_priori;
use quantbound::bounds::enclosure::Rules;
use quantbound::bounds::probabilistic::{
    binomial, curve, mean, moments, next_image, selection, together, tolerance,
};
use quantbound::bounds::{
    Ball, Domain, Parametrizations, Rescale, Setting, find, registry, standing,
};
use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;
use quantbound::network::{Activation, Linear, Network, Op};
use quantbound::quant::uniform::Scheme;
use quantbound::quant::{Granularity, QuantizedActivation, QuantizedLayer, QuantizedNetwork};
use quantbound::tensor::tolerance::UNIT_F64;
use quantbound::tensor::{Batch, Shape, Tensor};

use super::enclosure::example;

/// Weights, biases, activation.
type Layer<'a> = (&'a [f32], &'a [f32], Activation);

fn chain(inputs: usize, layers: &[Layer<'_>]) -> Network {
    let mut network = Network::new("chain", Shape::vector(inputs));
    for (i, &(weight, bias, activation)) in layers.iter().enumerate() {
        let dims = [bias.len(), weight.len() / bias.len()];
        let weight = Tensor::new(dims, weight.to_vec()).unwrap();
        let bias = bias.to_vec();
        let layer = Op::Linear(Linear { weight, bias });
        network
            .push(format!("{i}"), layer, &[i], activation)
            .unwrap();
    }
    network
}

/// `second sigma(x0 - first x1 + 1/2) - 1`
fn two_layers(first: f32, second: f32, sigma: Activation) -> Network {
    let output = Activation::Identity;
    chain(
        2,
        &[
            (&[1.0, -first], &[0.5], sigma),
            (&[second], &[-1.0], output),
        ],
    )
}

fn pair(sigma: Activation) -> (Network, Network) {
    (two_layers(2.0, 4.0, sigma), two_layers(1.5, 4.5, sigma))
}

/// The second network of the pair as codes of half a unit.
fn codes() -> QuantizedNetwork {
    let layer = |node, codes: &[i32]| QuantizedLayer {
        node,
        bits: 8,
        codes: codes.iter().map(|c| (c + 127) as u16).collect(),
        scale: vec![0.5],
        zero_point: vec![127],
        ..QuantizedLayer::default()
    };
    QuantizedNetwork {
        layers: vec![layer(0, &[2, -3]), layer(1, &[9])],
        activations: Vec::new(),
    }
}

/// A bound at both layers.
fn evaluate(id: &str, (network, quantized): &(Network, Network), domain: &Domain) -> Vec<f64> {
    let setting = Setting::new(network, quantized, domain).unwrap();
    let series = find(id).unwrap().evaluate(&setting).unwrap();
    series.log10.iter().map(|l| 10f64.powf(*l)).collect()
}

/// Rows of the tables, by their first column: the numbers in the next ones.
fn written() -> BTreeMap<String, Vec<f64>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bounds.md");
    let page = std::fs::read_to_string(path).unwrap();
    let section = page.split("## Worked by hand").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|l| l.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let numbers = cells[2..].iter().map_while(|c| c.parse().ok());
        let numbers: Vec<f64> = numbers.collect();
        if !numbers.is_empty() {
            let name = cells[1].to_string();
            assert!(rows.insert(name, numbers).is_none(), "twice: {line}");
        }
    }
    rows
}

#[test]
fn every_line_of_the_page_is_so() {
    let written = written();
    let mut found = ladder();
    found.extend(others());
    let names = |of: &BTreeMap<String, Vec<f64>>| of.keys().cloned().collect::<BTreeSet<_>>();
    let (page, here) = (names(&written), names(&found));
    let apart: Vec<_> = page.symmetric_difference(&here).collect();
    assert!(apart.is_empty(), "on one side only: {apart:?}");
    for (name, numbers) in &written {
        let got = &found[name];
        assert_eq!(numbers.len(), got.len(), "{name}");
        for (written, got) in numbers.iter().zip(got) {
            // The repetition that equalizes stops when it moves by less than a thousandth.
            let room = if name.contains("equalized") {
                4e-3
            } else {
                1e-6
            };
            let close = (written - got).abs() <= room * written.abs();
            assert!(close, "{name}: the page has {written}, found {got}");
        }
    }
}

/// Every bound of the registry on the pair, over the box.
fn ladder() -> BTreeMap<String, Vec<f64>> {
    let domain = Domain::symmetric(2, 3.0);
    let pair = pair(Activation::Relu);
    let all = registry().iter().map(|b| b.facts().id);
    all.map(|id| (format!("`{id}`"), evaluate(id, &pair, &domain)))
        .collect()
}

fn others() -> BTreeMap<String, Vec<f64>> {
    let lists = [
        of_other_inputs(),
        of_samples(),
        of_grids(),
        of_dice(),
        of_balls(),
        of_units(),
        of_images(),
    ];
    let all = lists.into_iter().flatten();
    all.map(|(name, value)| (name.to_string(), vec![value]))
        .collect()
}

fn of_other_inputs() -> Vec<(&'static str, f64)> {
    let box3 = Domain::symmetric(2, 3.0);
    let one_sided = Domain {
        lo: vec![1.0; 2],
        hi: vec![2.0; 2],
    };
    let hundred = |w: f32| chain(1, &[(&[w], &[0.0], Activation::Relu6)]);
    let capped = (hundred(100.0), hundred(-100.0));
    let at = |id: &str, pair: &(Network, Network), domain: &Domain| {
        *evaluate(id, pair, domain).last().unwrap()
    };
    let (published, inputs) = example();
    let upper = |rules| published.enclose(&inputs, rules).unwrap()[1].difference[0].hi;
    let line = Domain::symmetric(1, 3.0);
    vec![
        (
            "`fused`, identity for ReLU",
            at("fused", &pair(Activation::Identity), &box3),
        ),
        (
            "`layerwise`, ReLU6 of `100 x` and `-100 x`",
            at("layerwise", &capped, &line),
        ),
        (
            "`layerwise+cap`, ReLU6 of `100 x` and `-100 x`",
            at("layerwise+cap", &capped, &line),
        ),
        (
            "`interval`, pixels in [1, 2]",
            at("interval", &pair(Activation::Relu), &one_sided),
        ),
        (
            "enclosure of the published example, `interval`",
            upper(Rules::Interval),
        ),
        (
            "enclosure of the published example, `symbolic`",
            upper(Rules::Symbolic),
        ),
    ]
}

fn of_samples() -> Vec<(&'static str, f64)> {
    let (network, _) = pair(Activation::Relu);
    let engine = CpuEngine::f64(Some(1)).unwrap();
    let mut runner = engine.prepare(&network).unwrap();
    let codes = runner.load(&codes()).unwrap();
    let data = vec![1.0, -1.0, 3.0, 1.75];
    runner
        .reference(&Batch::new(network.input, data).unwrap())
        .unwrap();
    let exact = runner.samples().unwrap().exact(&codes).unwrap();
    let measured = |image: usize| exact[image][1].max_abs_diff;
    let lacking = (measured(0) - exact[0][1].at_least) / UNIT_F64;
    assert!((198.5..206.0).contains(&lacking), "{lacking}");
    let mut at = |radius: f64| -> Vec<f64> {
        let bounds = runner.samples().unwrap().bounds(&codes, radius);
        bounds.unwrap()[0].iter().map(|b| b.bound).collect()
    };
    let (sample, ball) = (at(0.0), at(0.1));
    let centred = runner.samples().unwrap().centred(&codes, 0.1).unwrap();
    vec![
        ("`sample` at (1, -1), hidden", sample[0]),
        ("`sample` at (1, -1)", sample[1]),
        ("`ball:0.1` at (1, -1), hidden", ball[0]),
        ("`ball:0.1` at (1, -1)", ball[1]),
        ("`ball-centred:0.1` at (1, -1), hidden", centred[0][0].bound),
        ("`ball-centred:0.1` at (1, -1)", centred[0][1].bound),
        ("measured at (1, -1)", measured(0)),
        ("measured at (3, 1.75)", measured(1)),
    ]
}

/// The hidden unit of R' rounded to 0, 1, .. 7.
fn grid() -> QuantizedActivation {
    QuantizedActivation {
        bits: 3,
        scale: 1.0,
        ..QuantizedActivation::default()
    }
}

fn of_grids() -> Vec<(&'static str, f64)> {
    let domain = Domain::symmetric(2, 3.0);
    let (network, quantized) = pair(Activation::Relu);
    let setting = Setting::new(&network, &quantized, &domain).unwrap();
    let setting = setting.rounding(&[grid()]).unwrap();
    let at = |id: &str| {
        let series = find(id).unwrap().evaluate(&setting).unwrap();
        10f64.powf(series.log10[1])
    };
    let engine = CpuEngine::f64(Some(1)).unwrap();
    let mut runner = engine.prepare(&network).unwrap();
    let rounded = QuantizedNetwork {
        activations: vec![grid()],
        ..codes()
    };
    let rounded = runner.load(&rounded).unwrap();
    let input = Batch::new(network.input, vec![1.0, -1.0]).unwrap();
    runner.reference(&input).unwrap();
    let sample = runner.samples().unwrap().bounds(&rounded, 0.0).unwrap();
    vec![
        (
            "`channelwise`, hidden rounded to 0, 1, .. 7",
            at("channelwise"),
        ),
        ("`interval`, hidden rounded to 0, 1, .. 7", at("interval")),
        (
            "`sample` at (1, -1), hidden rounded to 0, 1, .. 7",
            sample[0][1].bound,
        ),
    ]
}

fn of_dice() -> Vec<(&'static str, f64)> {
    let (network, _) = pair(Activation::Relu);
    let engine = CpuEngine::f64(Some(1)).unwrap();
    let mut runner = engine.prepare(&network).unwrap();
    let codes = runner.load(&codes()).unwrap();
    let input = Batch::new(network.input, vec![1.0, -1.0]).unwrap();
    runner.reference(&input).unwrap();
    let steps = [vec![0.5], vec![0.5]];
    let found = runner.samples().unwrap().before_dice(&codes, &steps, 0.5);
    let found = found.unwrap();
    vec![
        (
            "`sample-stochastic:0.5` at (1, -1), steps of 1/2, hidden",
            found[0][0].bound,
        ),
        (
            "`sample-stochastic:0.5` at (1, -1), steps of 1/2",
            found[0][1].bound,
        ),
    ]
}

fn of_balls() -> Vec<(&'static str, f64)> {
    let relu = (&[1.0][..], &[0.0][..], Activation::Relu);
    let network = chain(1, &[relu, (&[1.0], &[0.0], Activation::Identity)]);
    let domain = Domain::symmetric(1, 1.0);
    let radii = vec![vec![0.25]; 2];
    let ball = Ball::new(&network, &domain, &radii).unwrap();
    let bits = a_priori(
        &network,
        &domain,
        Scheme::Symmetric,
        Granularity::PerChannel,
        &["layerwise"],
        &[0.01],
    );
    let bits = bits.unwrap()["layerwise"][0][1].unwrap();
    vec![
        (
            "ball of weights of radius 1/4 around `sigma(x)`, then `x`, over [-1, 1]",
            10f64.powf(ball.evaluate("layerwise").unwrap().log10[1]),
        ),
        ("required bits of that network for 0.01", f64::from(bits)),
    ]
}

fn of_units() -> Vec<(&'static str, f64)> {
    let build = |last: f32| {
        let hidden = (&[4.0, 1.0][..], &[0.0; 2][..], Activation::Relu);
        chain(1, &[hidden, (&[1.0, last], &[0.0], Activation::Identity)])
    };
    let (network, quantized) = (build(4.0), build(4.5));
    let domain = Domain::symmetric(1, 1.0);
    let all = Parametrizations::new(&network);
    let products = all.norm_products();
    assert!((products.path_norm - products.equalized).abs() < 2e-3);
    let ladders = all.ladders(&quantized, &domain, Some(&["layerwise"]), &BTreeMap::new());
    let ladders = ladders.unwrap().map(|l| standing(l, |_| {}).unwrap());
    let output = |rescale: Rescale| 10f64.powf(ladders[rescale as usize][0].1.log10[1]);
    vec![
        (
            "`x -> (4 x, x) -> h0 + 4 h1` over [-1, 1]: product of norms",
            10f64.powf(products.none),
        ),
        ("the same equalized", 10f64.powf(products.equalized)),
        ("`layerwise` with 4.5 for the last 4", output(Rescale::None)),
        ("the same equalized (Lemma 3)", output(Rescale::Equalize)),
    ]
}

fn of_images() -> Vec<(&'static str, f64)> {
    let counted = |n: u32| (1..=n).map(f64::from).collect::<Vec<_>>();
    let depths: Vec<Vec<f64>> = counted(59).into_iter().map(|z| vec![z, 10.0 * z]).collect();
    let together = together::tails(&depths, &[1.0, 10.0], 0.95, 0.95).unwrap();
    let mut ones = vec![0.0; 100];
    ones[..10].fill(1.0);
    let below = vec![0.0; 59];
    let widths = [(8, 0.1), (6, 0.3), (5, 0.7), (4, 0.2)];
    let widths = widths.map(|(bits, value)| (bits, Some(value)));
    vec![
        (
            "T1: 93 images 1 to 93, 95 % and 95 %",
            tolerance::tail(&counted(93), 0.95, 0.95).unwrap().value,
        ),
        (
            "T2: 19 images 1 to 19, 95 %",
            next_image::tail(&counted(19), 0.95).unwrap().value,
        ),
        (
            "T3: depths `i` and `10 i`, scales 1 and 10, 59 images",
            together.values[1].unwrap(),
        ),
        (
            "T4, `curve`: band of 100 images, 95 %",
            curve::band(100, 0.95).unwrap(),
        ),
        (
            "T4, `rate`: none of 59 above, 95 %",
            curve::exceedance(&below, 0.5, 0.95).unwrap(),
        ),
        (
            "T5, Hoeffding: 10 ones of 100, 95 %",
            mean::hoeffding(&ones, 1.0, 0.95).unwrap(),
        ),
        (
            "T5, Bernstein: 10 ones of 100, 95 %",
            mean::bernstein(&ones, 1.0, 0.95).unwrap(),
        ),
        (
            "T6: 256 images, `k^2 = 19`",
            moments::rate(256, 19f64.sqrt()),
        ),
        (
            "folder of 4, 2 drawn, none above, 60 %",
            binomial::share_of_folder(4, 2, 0, 0.4),
        ),
        ("choosing, each of 4, 95 %", selection::each_of(4, 0.95)),
        ("choosing, night 1, 95 %", selection::of_night(1, 0.95)),
        (
            "a width by its tail: 8, 6, 5, 4 bits at 0.1, 0.3, 0.7, 0.2 for 0.5",
            selection::narrowest(widths, 0.5).map_or(f64::NAN, f64::from),
        ),
    ]
}
