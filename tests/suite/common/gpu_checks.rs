//! Engines under test, and the comparison of their traces and statistics with the literal forward pass.

use std::sync::{Mutex, OnceLock};

use proptest::prelude::TestCaseError;
use quantbound::engine::gpu::tile::{TILES, Tile};
use quantbound::engine::gpu::{Blocking, GpuEngine, GpuOptions, collect};
use quantbound::engine::{Engine, Reduced, TapStats};
use quantbound::network::architectures::mobilenet_v2::{Naming, mobilenet_v2};
use quantbound::network::{Activation, INPUT, Network, Node, Op};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedNetwork};
use quantbound::tensor::tolerance::{UNIT_WGSL, gamma};
use quantbound::tensor::{Batch, Shape};

use super::gpu_problems::Noise;
use super::naive;

pub const INSTALL: &str =
    "these tests need a GPU adapter; a software one will do (Mesa's lavapipe)";

/// A choice of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    blocking: Blocking,
    tile: Option<Tile>,
    /// Of every sum, if it has so many steps.
    parts: Option<usize>,
}

impl Kind {
    pub fn engine(self) -> &'static GpuEngine {
        static ENGINES: Mutex<Vec<(Kind, &'static GpuEngine)>> = Mutex::new(Vec::new());
        let mut engines = ENGINES.lock().unwrap();
        if let Some((_, engine)) = engines.iter().find(|(kind, _)| *kind == self) {
            return engine;
        }
        let engine: &'static GpuEngine = Box::leak(Box::new(self.made(false)));
        engines.push((self, engine));
        engine
    }

    /// The same kernels, with statistics in passes of their own.
    pub fn separate(self) -> GpuEngine {
        self.made(true)
    }

    fn made(self, separate: bool) -> GpuEngine {
        let options = GpuOptions {
            blocking: Some(self.blocking),
            tile: self.tile,
            parts: self.parts,
            separate,
            ..GpuOptions::default()
        };
        GpuEngine::with_options(None, options).expect(INSTALL)
    }
}

/// The kernels that run everywhere.
pub fn engine() -> &'static GpuEngine {
    let kind = Kind {
        blocking: Blocking::Registers,
        tile: None,
        parts: None,
    };
    kind.engine()
}

/// The kernels for GPUs, depthwise ones included.
pub fn blocks() -> &'static GpuEngine {
    let kind = Kind {
        blocking: Blocking::Tiled,
        tile: Some(TILES[0]),
        parts: None,
    };
    kind.engine()
}

/// The kernels for GPUs, sums in three parts.
pub fn in_parts() -> &'static GpuEngine {
    let kind = Kind {
        blocking: Blocking::Tiled,
        tile: Some(TILES[3]),
        parts: Some(3),
    };
    kind.engine()
}

/// Every choice that this adapter has: register blocking, vectors of lanes, each tile, and tiles whose sums are cut into
/// parts, equal ones and others, one step each at the least.
pub fn kinds() -> Vec<Kind> {
    let kind = |blocking, tile| Kind {
        blocking,
        tile,
        parts: None,
    };
    let mut kinds = vec![kind(Blocking::Registers, None)];
    if engine().adapter().subgroups == (8, 8) {
        kinds.push(kind(Blocking::Lanes, None));
    }
    kinds.extend(TILES.map(|tile| kind(Blocking::Tiled, Some(tile))));
    let cut = [(1, 16), (3, 3)];
    kinds.extend(cut.map(|(tile, parts)| Kind {
        parts: Some(parts),
        ..kind(Blocking::Tiled, Some(TILES[tile]))
    }));
    kinds
}

/// Bindings and dispatches so small that layers and grids must be split.
pub fn cramped() -> &'static GpuEngine {
    static ENGINE: OnceLock<GpuEngine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let options = GpuOptions {
            max_binding: Some(8192),
            max_workgroups: Some(3),
            blocking: Some(Blocking::Registers),
            ..GpuOptions::default()
        };
        GpuEngine::with_options(None, options).expect(INSTALL)
    })
}

pub fn trace(engine: &GpuEngine, network: &Network, input: &Batch) -> Vec<Batch<f64>> {
    engine.prepare(network).unwrap().trace(input, None).unwrap()
}

pub fn parity(engine: &GpuEngine, network: &Network, input: &Batch) -> Result<(), TestCaseError> {
    check_trace(network, input, &trace(engine, network, input)).map_err(TestCaseError::fail)
}

pub fn quantizers(bits: u32) -> [Uniform; 2] {
    [
        Uniform::new(bits, Granularity::PerTensor, Scheme::Symmetric).unwrap(),
        Uniform::new(bits, Granularity::PerChannel, Scheme::Asymmetric).unwrap(),
    ]
}
pub fn check_statistics(
    engine: &GpuEngine,
    network: &Network,
    variant: &QuantizedNetwork,
    input: &Batch,
) -> Result<Reduced, String> {
    let mut runner = engine.prepare(network).unwrap();
    let id = runner.load(variant).unwrap();
    let outputs = runner.reference(input).unwrap();
    let result = runner.compare(&id).unwrap();
    let full = runner.trace(input, None).unwrap();
    let quantized = runner.trace(input, Some(&id)).unwrap();
    let narrow = |values: &[f64]| {
        values
            .iter()
            .map(|&x| (x as f32).to_bits())
            .collect::<Vec<_>>()
    };
    let raw = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let last = network.nodes.len() - 1;
    for (image, output) in outputs.iter().enumerate() {
        if raw(output) != narrow(full[last].image(image))
            || raw(&result.outputs[image]) != narrow(quantized[last].image(image))
        {
            return Err(format!(
                "outputs of image {image} are not those of the trace"
            ));
        }
        for (t, tap) in network.taps().iter().enumerate() {
            let (y, q) = (
                full[tap.node].image(image),
                quantized[tap.node].image(image),
            );
            check_stats(&result.stats[image][t], y, q)
                .map_err(|e| format!("image {image}, {}: {e}", network.nodes[tap.node].name))?;
        }
    }
    Ok(result)
}

pub fn check_stats(got: &TapStats, y: &[f64], q: &[f64]) -> Result<(), String> {
    let want = TapStats::reduce(y, q);
    // A difference and a square are rounded before they are summed.
    let sums = gamma(collect::CHAIN + 4, UNIT_WGSL);
    let near = |name: &str, got: f64, want: f64, relative: f64| {
        let flushed = y.len() as f64 * f64::from(f32::MIN_POSITIVE);
        if (got - want).abs() <= relative * want + flushed {
            Ok(())
        } else {
            Err(format!("{name}: got {got:e}, expected {want:e}"))
        }
    };
    near(
        "max_abs_diff",
        got.max_abs_diff,
        want.max_abs_diff,
        UNIT_WGSL,
    )?;
    near("sum_sq_diff", got.sum_sq_diff, want.sum_sq_diff, sums)?;
    near("sum_abs_diff", got.sum_abs_diff, want.sum_abs_diff, sums)?;
    near("ref_max_abs", got.ref_max_abs, want.ref_max_abs, 0.0)?;
    near("ref_sum_sq", got.ref_sum_sq, want.ref_sum_sq, sums)?;
    if (got.non_finite, got.count) != (want.non_finite, want.count) {
        return Err(format!("counts: got {got:?}, expected {want:?}"));
    }
    let at = got.argmax as usize;
    if y[at].is_finite() && q[at].is_finite() {
        near(
            "difference at argmax",
            (q[at] - y[at]).abs(),
            want.max_abs_diff,
            2.0 * UNIT_WGSL,
        )?;
    }
    // Differences that round to one f32 may swap places; exact ones may not.
    let exact = got.max_abs_diff == want.max_abs_diff;
    let rival = (q[at] - y[at]).abs() == want.max_abs_diff;
    if exact && rival && got.argmax > want.argmax {
        return Err(format!(
            "argmax: got {}, expected {}",
            got.argmax, want.argmax
        ));
    }
    Ok(())
}

/// Networks of one layer each that meet every kernel with packed weights.
pub fn small_mobilenet() -> Network {
    let mut network = mobilenet_v2(0.5, Some(10), 32, Naming::Torchvision)
        .skeleton()
        .unwrap();
    let mut noise = Noise::new(42);
    for node in &mut network.nodes {
        let Some(fan_in) = node.affine().map(|a| a.fan_in()) else {
            continue;
        };
        let scale = (6.0 / fan_in as f32).sqrt();
        let weight = node.weight_mut().unwrap().data_mut();
        weight.iter_mut().for_each(|w| *w = noise.next() * scale);
        let bias = node.bias_mut().unwrap();
        bias.iter_mut().for_each(|b| *b = 0.1 * noise.next());
    }
    network
}

/// Checks every node of a trace against the literal operation over the trace's own inputs, in f64. The tolerance is
/// that of the node's accumulation alone: `gamma_n` of its sum of absolute terms.
pub fn check_trace(network: &Network, input: &Batch, trace: &[Batch<f64>]) -> Result<(), String> {
    assert_eq!(trace.len(), network.nodes.len());
    for (i, node) in network.nodes.iter().enumerate() {
        if trace[i].shape != node.shape || trace[i].images() != input.images() {
            return Err(format!("{}: trace of {:?}", node.name, trace[i].shape));
        }
        for image in 0..input.images() {
            let values: Vec<Vec<f64>> = node
                .inputs
                .iter()
                .map(|&v| match v {
                    INPUT => input.image(image).iter().map(|&x| f64::from(x)).collect(),
                    v => trace[v - 1].image(image).to_vec(),
                })
                .collect();
            let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
            check_node(node, &shapes, &values, trace[i].image(image))
                .map_err(|e| format!("node {}, image {image}: {e}", node.name))?;
        }
    }
    Ok(())
}

fn check_node(
    node: &Node,
    shapes: &[Shape],
    values: &[Vec<f64>],
    got: &[f64],
) -> Result<(), String> {
    let apply = |op: &Op, values: &[Vec<f64>]| {
        let inputs: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
        naive::apply(op, shapes, &inputs, node.shape)
    };
    let want = apply(&node.op, values);
    let sizes: Vec<Vec<f64>> = values
        .iter()
        .map(|v| v.iter().map(|x| x.abs()).collect())
        .collect();
    let scale = apply(&absolute(&node.op), &sizes);
    let terms = roundings(node, shapes);
    for (i, (&got, &want)) in got.iter().zip(&want).enumerate() {
        let want = match node.activation {
            Activation::Identity => want,
            Activation::Relu => want.max(0.0),
            Activation::Relu6 => want.clamp(0.0, 6.0),
        };
        // Denormal results and products may be flushed to zero.
        let flushed = terms as f64 * f64::from(f32::MIN_POSITIVE);
        let tolerance = gamma(terms, UNIT_WGSL) * scale[i] + flushed;
        let error = (got - want).abs();
        if error.is_nan() || error > tolerance {
            return Err(format!(
                "element {i}: got {got:e}, expected {want:e}, off by {error:e}, tolerance {tolerance:e} ({terms} roundings)"
            ));
        }
    }
    Ok(())
}

/// Roundings on the way to one output value.
fn roundings(node: &Node, shapes: &[Shape]) -> usize {
    // WGSL divides to within 2.5 units in the last place.
    const DIVISION: usize = 3;
    match &node.op {
        // A product and a sum per term of which the longest chain counts, and the bias.
        Op::Conv(_) | Op::Linear(_) => node.affine().unwrap().fan_in() + 2,
        Op::Add => shapes.len() - 1,
        Op::AvgPool { window, .. } => window.kernel[0] * window.kernel[1] + DIVISION,
        Op::GlobalAvgPool => shapes[0].pixels() + DIVISION,
        Op::MaxPool(_) | Op::Flatten | Op::Concat | Op::Channels(_) => 0,
        Op::Function(_) | Op::Product | Op::ResponseNorm(_) => {
            unreachable!("not in these networks")
        }
    }
}

fn absolute(op: &Op) -> Op {
    let mut op = op.clone();
    let parts = match &mut op {
        Op::Conv(c) => Some((&mut c.weight, &mut c.bias)),
        Op::Linear(l) => Some((&mut l.weight, &mut l.bias)),
        _ => None,
    };
    if let Some((weight, bias)) = parts {
        weight
            .data_mut()
            .iter_mut()
            .chain(bias)
            .for_each(|w| *w = w.abs());
    }
    op
}

/// Bits of every value of a trace.
pub fn bits(trace: &[Batch<f64>]) -> Vec<Vec<u64>> {
    trace
        .iter()
        .map(|b| b.data.iter().map(|x| x.to_bits()).collect())
        .collect()
}

/// Checks the last node against the literal forward pass of the whole network. The tolerance carries each node's own
/// rounding errors through the absolute values of the operations after it.
pub fn check_output(network: &Network, input: &Batch, trace: &[Batch<f64>]) -> Result<(), String> {
    for image in 0..input.images() {
        let x: Vec<f64> = input.image(image).iter().map(|&x| f64::from(x)).collect();
        let want = naive::forward(network, &x);
        let mut errors: Vec<Vec<f64>> = vec![vec![0.0; x.len()]];
        let mut values = vec![x];
        for (node, output) in network.nodes.iter().zip(&want) {
            let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
            let through = |of: &dyn Fn(usize) -> Vec<f64>, op: &Op| {
                let inputs: Vec<Vec<f64>> = node.inputs.iter().map(|&v| of(v)).collect();
                let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
                naive::apply(op, &shapes, &inputs, node.shape)
            };
            let sizes = |v: usize| -> Vec<f64> {
                let pairs = values[v].iter().zip(&errors[v]);
                pairs.map(|(x, e)| x.abs() + e).collect()
            };
            let carried = through(&|v| errors[v].clone(), &unbiased(&absolute(&node.op)));
            let scale = through(&sizes, &absolute(&node.op));
            let terms = roundings(node, &shapes);
            let unit = gamma(terms, UNIT_WGSL);
            let own = scale
                .iter()
                .map(|s| unit * s + terms as f64 * f64::from(f32::MIN_POSITIVE));
            errors.push(carried.iter().zip(own).map(|(c, o)| c + o).collect());
            values.push(output.clone());
        }
        let last = network.nodes.len();
        for (i, (&got, &want)) in trace[last - 1]
            .image(image)
            .iter()
            .zip(&values[last])
            .enumerate()
        {
            let tolerance = errors[last][i];
            if (got - want).abs() > tolerance || got.is_nan() {
                return Err(format!(
                    "image {image}, output {i}: got {got:e}, expected {want:e}, tolerance {tolerance:e}"
                ));
            }
        }
    }
    Ok(())
}

fn unbiased(op: &Op) -> Op {
    let mut op = op.clone();
    match &mut op {
        Op::Conv(c) => c.bias.fill(0.0),
        Op::Linear(l) => l.bias.fill(0.0),
        _ => {}
    }
    op
}
