//! Puts the bound on a node's errors together from what its parts let through.

use super::kernels::{Map, activation, word, workgroups};
use super::library::{GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::Activation;
use crate::tensor::tolerance::{UNIT_WGSL, gamma};

params! {
    /// Uniforms of `sample.wgsl`.
    pub struct Params {
        to_scale: [f32; 2],
        shrink: [f32; 2],
        count: u32,
        c4: u32,
        c: u32,
        activation: u32,
        parts: u32,
        scaled: u32,
        infinity_bits: u32,
        nan_bits: u32,
        gain: f32,
        rounding: f32,
        floor: f32,
        up: f32,
        limit: f32,
        padding: u32,
    }
}

/// `sample.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "sample",
    &[GRID],
    include_str!("../../../shaders/sample.wgsl"),
    6,
);

/// Sizes from here on may overflow on the way through a node.
const LIMIT: f32 = f32::MAX / 4.0;
/// Largest power of two in one factor.
const STEP: i32 = 120;

/// Maps that a bound is made of; they lie on the device like the result.
#[derive(Clone, Copy, Default)]
pub struct Parts<'a> {
    /// What the node does to the errors of its inputs.
    pub through: Option<&'a wgpu::Buffer>,
    /// The change of parameters on the reference activations, of any sign.
    pub local: Option<&'a wgpu::Buffer>,
    /// Magnitudes in both networks, which all roundings are relative to.
    pub sizes: Option<&'a wgpu::Buffer>,
    /// The change of parameters on the reach of the inputs.
    pub spread: Option<&'a wgpu::Buffer>,
    /// What the node does to the reach of its inputs.
    pub reach: Option<&'a wgpu::Buffer>,
}

/// How the parts add up.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Factor of what comes through.
    pub gain: f64,
    /// Factor of the magnitudes.
    pub rounding: f64,
    /// Sum of what may be flushed to zero on the way.
    pub floor: f64,
    /// Factor for the roundings of the bound itself.
    pub up: f64,
    /// Errors come in divided by two to this power.
    pub scale: i32,
    /// And leave divided by two to this power more.
    pub shrink: i32,
}

impl Terms {
    /// Of a node with `n` roundings per element (0: it only selects) and rows of at most `norm` in sum.
    pub fn new(n: usize, norm: f64) -> Self {
        if n == 0 {
            return Self::plain();
        }
        // One more for weights that a kernel dequantizes, one more for the difference of weights.
        let unit = gamma(n + 2, UNIT_WGSL);
        let smallest = f64::from(f32::MIN_POSITIVE);
        Self {
            gain: 1.0 + unit,
            rounding: 2.0 * unit,
            floor: 8.0 * (n as f64 + norm + 1.0) * smallest,
            up: 1.0 + 4.0 * gamma(n + 16, UNIT_WGSL),
            ..Self::plain()
        }
    }

    /// Of copies.
    pub fn plain() -> Self {
        Self {
            gain: 1.0,
            rounding: 0.0,
            floor: 0.0,
            up: 1.0,
            scale: 0,
            shrink: 0,
        }
    }
}

/// `2^-power` as two factors, not less.
fn factors(power: i32) -> [f32; 2] {
    let first = power.clamp(0, STEP);
    let second = (power - first).clamp(0, STEP);
    [first, second].map(|k| 2f32.powi(-k))
}

fn rounded_up(x: f64) -> f32 {
    if x == 0.0 { 0.0 } else { (x as f32).next_up() }
}

/// Records `e`, the bound after the activation, around the pre-activations `pre`.
pub fn record(
    rec: &mut Recorder<'_>,
    pre: Map<'_>,
    parts: Parts<'_>,
    terms: &Terms,
    act: Activation,
    e: &wgpu::Buffer,
) -> Result<(), EngineError> {
    let present = [parts.local, parts.sizes, parts.spread, parts.reach];
    let mask = (0..4).map(|i| u32::from(present[i].is_some()) << i).sum();
    let one = |x: f64| if x == 1.0 { 1.0 } else { rounded_up(x) };
    let params = Params {
        to_scale: factors(terms.scale),
        shrink: factors(terms.shrink),
        count: word(pre.vec4s()),
        c4: word(pre.c4()),
        c: word(pre.shape.c),
        activation: activation(act),
        parts: mask,
        scaled: u32::from(terms.scale > 0),
        infinity_bits: f32::INFINITY.to_bits(),
        nan_bits: f32::NAN.to_bits(),
        gain: parts.through.map_or(0.0, |_| one(terms.gain)),
        rounding: rounded_up(terms.rounding),
        floor: rounded_up(terms.floor),
        up: one(terms.up),
        limit: LIMIT,
        padding: 0,
    };
    let or_any = |buffer: Option<&'_ wgpu::Buffer>| buffer.unwrap_or(pre.buffer).clone();
    let bound = [
        or_any(parts.through),
        or_any(parts.local),
        or_any(parts.sizes),
        or_any(parts.spread),
        or_any(parts.reach),
    ];
    let mut buffers = vec![pre.buffer];
    buffers.extend(&bound);
    buffers.push(e);
    rec.launch(&KERNEL, &[], &params, &buffers, workgroups(pre.vec4s()))
}
