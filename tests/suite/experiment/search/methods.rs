//! Both methods: what they find, where they stop, and that one seed gives one result.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use quantbound::bounds::Domain;
use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;
use quantbound::experiment::search::{Ground, Method, Record, SearchError, Task, Worst, search};
use quantbound::network::{Activation, Conv, INPUT, Linear, Network, Op, Pad};
use quantbound::tensor::{Batch, Shape, Tensor};

use super::quantize;
use crate::common::checker::rounding_errors;
use crate::common::random_network::{Random, sample_input};

pub const METHODS: [Method; 2] = [Method::Gradient, Method::Square];

/// A task that begins with `images`, whatever order they are in.
pub fn task(
    network: &Network,
    bits: u32,
    domain: &Domain,
    images: &[Vec<f32>],
    budget: usize,
) -> Task {
    Task {
        quantized: quantize(network, bits),
        region: Task::region(network, domain).unwrap(),
        images: Batch::new(network.input, images.concat()).unwrap(),
        names: (0..images.len()).map(|i| i.to_string()).collect(),
        network: network.clone(),
        budget,
        seed: 7,
        id: format!("budget {budget}"),
    }
}

pub fn run(method: Method, task: &Task) -> Record {
    run_on(method, task, 1, None, &mut |_| ()).unwrap()
}

fn run_on(
    method: Method,
    task: &Task,
    threads: usize,
    dir: Option<&Path>,
    tell: &mut dyn FnMut(&Record),
) -> Result<Record, SearchError> {
    let engine = CpuEngine::f32(Some(threads)).unwrap();
    let mut runner = engine.prepare(&task.network).unwrap();
    let variant = runner.load(&task.quantized).unwrap();
    let ground = Ground {
        runner: runner.as_mut(),
        variant: &variant,
    };
    search(method, task, ground, &engine, dir, tell)
}

/// What a search must come back to, bit for bit.
fn fingerprint(record: &Record) -> (Vec<u64>, Vec<String>, Vec<u32>, u64, String) {
    (
        record.trace.iter().map(|x| x.to_bits()).collect(),
        record.starts.clone(),
        record.input.iter().map(|x| x.to_bits()).collect(),
        record.best.to_bits(),
        record.start.clone(),
    )
}

/// Dense layers of these widths, the activation between them.
fn dense(input: Shape, widths: &[usize], activation: Activation, seed: u64) -> Network {
    let mut random = Random(seed);
    let mut network = Network::new("dense", input);
    let mut at = network
        .push("flat", Op::Flatten, &[INPUT], Activation::Identity)
        .unwrap();
    let mut fan_in = input.len();
    for (i, &width) in widths.iter().enumerate() {
        let mut draw =
            |n: usize| -> Vec<f32> { (0..n).map(|_| (2.0 * random.unit() - 1.0) as f32).collect() };
        let weight = Tensor::new([width, fan_in], draw(width * fan_in)).unwrap();
        let bias = draw(width).iter().map(|b| 0.1 * b).collect();
        let last = i + 1 == widths.len();
        let activation = if last {
            Activation::Identity
        } else {
            activation
        };
        let linear = Op::Linear(Linear { weight, bias });
        at = network
            .push(format!("fc{i}"), linear, &[at], activation)
            .unwrap();
        fan_in = width;
    }
    network
}

/// The image in the middle of the box, and one beside it.
fn middle(domain: &Domain, shape: Shape) -> Vec<Vec<f32>> {
    let at = |t: f64| -> Vec<f32> {
        let ends = |i: usize| [domain.lo[i / shape.pixels()], domain.hi[i / shape.pixels()]];
        let value = |i: usize| ends(i)[0] + t * (ends(i)[1] - ends(i)[0]);
        (0..shape.len()).map(|i| value(i) as f32).collect()
    };
    vec![at(0.5), at(0.6)]
}

fn domain() -> Domain {
    Domain {
        lo: vec![-2.0, -1.0],
        hi: vec![2.5, 1.0],
    }
}

#[test]
fn on_linear_networks_the_ascent_finds_the_exact_maximum() {
    let shape = Shape::new(2, 4, 5);
    for seed in 0..20 {
        let network = dense(shape, &[6, 1], Activation::Identity, seed);
        let task = task(&network, 4, &domain(), &middle(&domain(), shape), 600);
        let quantized = task.quantized.dequantize(&network);
        let difference = |x: &[f64]| -> Vec<f64> {
            let y = crate::common::naive::forward(&network, x).pop().unwrap();
            let q = crate::common::naive::forward(&quantized, x).pop().unwrap();
            y.iter().zip(&q).map(|(y, q)| q - y).collect()
        };
        let at_zero = difference(&vec![0.0; shape.len()]);
        // An affine map is largest and smallest over a box at corners that each entry of its matrix chooses.
        let mut ends = vec![[0.0; 2]; at_zero.len()];
        for i in 0..shape.len() {
            let mut unit = vec![0.0; shape.len()];
            unit[i] = 1.0;
            let c = i / shape.pixels();
            for ((end, a), b) in ends.iter_mut().zip(difference(&unit)).zip(&at_zero) {
                let products = [(a - b) * domain().lo[c], (a - b) * domain().hi[c]];
                end[0] += products[0].min(products[1]);
                end[1] += products[0].max(products[1]);
            }
        }
        let pairs = ends.iter().zip(&at_zero);
        let maximum = pairs
            .map(|(e, b)| (e[0] + b).abs().max((e[1] + b).abs()))
            .fold(0.0, f64::max);
        let record = run(Method::Gradient, &task);
        let found: Vec<f64> = record.input.iter().map(|&x| f64::from(x)).collect();
        let exact = difference(&found)
            .iter()
            .fold(0.0, |m: f64, d| m.max(d.abs()));
        // As many passes as there are matrix columns, each with its rounding error.
        let far = vec![2.5; shape.len()];
        let error = |n: &Network| rounding_errors(n, &far).pop().unwrap();
        let slack = 4.0 * (shape.len() + 2) as f64 * (error(&network) + error(&quantized));
        assert!(
            (exact - maximum).abs() <= slack,
            "seed {seed}: found {exact}, maximum {maximum} +- {slack:e}"
        );
    }
}

#[test]
fn behind_a_hidden_layer_both_methods_beat_the_images() {
    let shape = Shape::new(2, 6, 6);
    for seed in 0..5 {
        let network = dense(shape, &[24, 4], Activation::Relu, seed);
        let mut random = Random(seed);
        let images: Vec<Vec<f32>> = (0..4)
            .map(|_| sample_input(&domain(), shape, &mut random))
            .map(|x| x.iter().map(|&x| x as f32).collect())
            .collect();
        let task = task(&network, 4, &domain(), &images, 200);
        for method in METHODS {
            let record = run(method, &task);
            assert_eq!(record.evaluations(), 200);
            assert!(
                record.best > 1.2 * record.before,
                "{method:?}, seed {seed}: {} against {}",
                record.best,
                record.before
            );
        }
    }
}

/// Pointwise and depthwise convolutions of 16 channels in turn, a ReLU6 after each.
fn deep(input: Shape, layers: usize, seed: u64) -> Network {
    const WIDTH: usize = 16;
    let mut random = Random(seed);
    let mut network = Network::new("deep", input);
    let (mut at, mut channels) = (INPUT, input.c);
    for i in 0..layers {
        let (groups, side) = match i % 2 {
            0 => (1, 1),
            _ => (channels, 3),
        };
        let dims = [WIDTH, channels / groups, side, side];
        let fan_in = channels / groups * side * side;
        let scale = 1.1 * (6.0 / fan_in as f64).sqrt();
        let mut draw = |n: usize, scale: f64| -> Vec<f32> {
            let value = |_| (scale * (2.0 * random.unit() - 1.0)) as f32;
            (0..n).map(value).collect()
        };
        let [top, left, bottom, right] = [side / 2; 4];
        let conv = Op::Conv(Conv {
            weight: Tensor::new(dims, draw(WIDTH * fan_in, scale)).unwrap(),
            bias: draw(WIDTH, 0.1),
            stride: [1, 1],
            pad: Pad {
                top,
                left,
                bottom,
                right,
            },
            dilation: [1, 1],
            groups,
        });
        at = network
            .push(format!("conv{i}"), conv, &[at], Activation::Relu6)
            .unwrap();
        channels = WIDTH;
    }
    network
}

/// Slopes behind thirty layers hold in a small neighbourhood only: steps of half the box gain next to nothing.
#[test]
fn behind_thirty_layers_a_small_budget_more_than_doubles_the_worst_image() {
    let shape = Shape::new(2, 24, 24);
    let mut ratios = Vec::new();
    for seed in 0..6 {
        let network = deep(shape, 30, seed);
        let mut random = Random(seed);
        let images: Vec<Vec<f32>> = (0..20)
            .map(|_| sample_input(&domain(), shape, &mut random))
            .map(|x| x.iter().map(|&x| x as f32).collect())
            .collect();
        let mut task = task(&network, 8, &domain(), &images, 60);
        let engine = CpuEngine::f32(Some(1)).unwrap();
        let values = task.values(&engine as &dyn Engine, &images).unwrap();
        let mut worst = Worst::default();
        for (i, (value, image)) in values.into_iter().zip(&images).enumerate() {
            worst.see(value, &i.to_string(), image);
        }
        (task.images, task.names) = worst.batch(&network).unwrap();
        let record = run(Method::Gradient, &task);
        assert_eq!(record.evaluations(), 60);
        ratios.push(record.best / record.before);
    }
    let mean = ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len() as f64;
    println!("{ratios:?}, mean {}", mean.exp());
    assert!(mean.exp() > 2.0, "{ratios:?}, mean {}", mean.exp());
}

#[test]
fn one_seed_gives_one_result_for_any_number_of_threads() {
    let shape = Shape::new(2, 5, 5);
    let network = dense(shape, &[12, 3], Activation::Relu6, 1);
    let mut task = task(&network, 3, &domain(), &middle(&domain(), shape), 150);
    for method in METHODS {
        let one = fingerprint(&run_on(method, &task, 1, None, &mut |_| ()).unwrap());
        let three = fingerprint(&run_on(method, &task, 3, None, &mut |_| ()).unwrap());
        assert_eq!(one, three, "{method:?}");
        task.seed += 1;
        let other = fingerprint(&run_on(method, &task, 1, None, &mut |_| ()).unwrap());
        assert_ne!(one.0, other.0, "{method:?}");
    }
}

#[test]
fn a_killed_search_goes_on_to_the_same_result() {
    let shape = Shape::new(2, 5, 5);
    let network = dense(shape, &[12, 3], Activation::Relu, 2);
    let mut task = task(&network, 3, &domain(), &middle(&domain(), shape), 400);
    for method in METHODS {
        let whole = fingerprint(&run(method, &task));
        let dir = tempfile::tempdir().unwrap();
        for kill_at in [130, 290] {
            let mut first = None;
            let killed = catch_unwind(AssertUnwindSafe(|| {
                run_on(method, &task, 2, Some(dir.path()), &mut |record| {
                    first.get_or_insert(record.evaluations());
                    assert!(record.evaluations() < kill_at, "killed");
                })
            }));
            assert!(killed.is_err());
            // The second run starts where the first had stored its state.
            let first = first.unwrap();
            assert!(if kill_at == 130 {
                first < 64
            } else {
                (64..130).contains(&first)
            });
        }
        let mut shown = Vec::new();
        let rest = run_on(method, &task, 1, Some(dir.path()), &mut |r| {
            shown.push(r.evaluations())
        });
        assert_eq!(fingerprint(&rest.unwrap()), whole, "{method:?}");
        assert!(shown[0] >= 130, "{shown:?}");
        // A finished search does nothing any more.
        let again = run_on(method, &task, 1, Some(dir.path()), &mut |r| {
            assert_eq!(r.evaluations(), 400);
        });
        assert_eq!(fingerprint(&again.unwrap()), whole);
        task.id.push('!');
        let other = run_on(method, &task, 1, Some(dir.path()), &mut |_| ()).unwrap_err();
        assert!(other.to_string().contains("other settings"), "{other}");
        let state = dir
            .path()
            .join(format!("state-{}.safetensors", method.name()));
        std::fs::write(&state, b"torn").unwrap();
        let torn = run_on(method, &task, 1, Some(dir.path()), &mut |_| ()).unwrap_err();
        assert!(torn.to_string().contains("remove it"), "{torn}");
    }
}
