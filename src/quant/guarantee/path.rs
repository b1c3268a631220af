//! Path following on data that both networks share (`X~ = X`), replayed with the codes that were chosen.
//!
//! With `u_t = u_(t-1) + w_t X_t - q_t X_t`, `z_t = <X_t, u_(t-1) + w_t X_t> / ||X_t||^2` and `P_t` the projection onto the complement of `X_t`,
//! `u_t = P_t u_(t-1) + (z_t - q_t) X_t`; the two terms are orthogonal.
//!
//! * GPFQ: `|z_t - q_t| <= step / 2`, hence `||u_N||^2 <= (step / 2)^2 ||X||_F^2`.
//! * SPFQ: `z_t - q_t` has mean 0 given the past and variance at most `step^2 / 4`, hence `Cov u_t <= (step^2 / 4) max_j ||X_j||^2 I` by
//!   induction and `E ||u_N||^2 <= m (step^2 / 4) max_j ||X_j||^2` for m samples; likewise `E ||u_N||^2 <= (step^2 / 4) ||X||_F^2`.
//!
//! Both need every projection to lie within the alphabet's reach.

use super::Check;
use crate::quant::QuantizedLayer;
use crate::quant::path::Alphabet;
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Columns of data, one per weight of a neuron.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Samples m.
    pub samples: usize,
    /// `[weights][samples]`.
    pub data: &'a [f32],
}

impl Columns<'_> {
    fn squared_norms(&self) -> impl Iterator<Item = f64> + '_ {
        let columns = self.data.chunks(self.samples.max(1));
        columns.map(|x| x.iter().map(|&x| f64::from(x).powi(2)).sum())
    }

    /// `||X||_F^2`.
    pub fn frobenius(&self) -> f64 {
        self.squared_norms().sum()
    }

    /// `max_j ||X_j||_2^2`.
    pub fn largest(&self) -> f64 {
        self.squared_norms().fold(0.0, f64::max)
    }
}

/// How a projection became a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The nearest level.
    Nearest,
    /// One of the two neighbours.
    Neighbour,
}

impl Choice {
    /// Largest distance of a projection from its level, in steps.
    pub fn reach(self) -> f64 {
        match self {
            Self::Nearest => 0.5,
            Self::Neighbour => 1.0,
        }
    }

    /// Largest index of a projection that finds its level in the alphabet.
    fn within(self, alphabet: Alphabet) -> f64 {
        let top = f64::from(alphabet.top);
        match self {
            Self::Nearest => top + 0.5,
            Self::Neighbour => top,
        }
    }
}

/// One neuron's path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replay {
    /// `||X w - X q||_2`.
    pub error: f64,
    /// Largest `|z_t - q_t|` in steps, less what rounding can make of it; clipped choices left out.
    pub reach: f64,
    /// Choices at an end of the alphabet for a projection beyond it.
    pub clipped: usize,
    /// Bound on the rounding error of `error`.
    pub rounding: f64,
}

impl Replay {
    /// True when the alphabet's ends, and nothing else, kept a choice from its level: no case of the theorem. A choice
    /// that is wrong within the alphabet's reach excuses no clipping after it.
    pub fn is_clipped(&self, choice: Choice) -> bool {
        self.clipped > 0 && self.reach <= choice.reach()
    }
}

/// Replays the path of a neuron: weights `w` and levels `q`, one of each per column.
pub fn replay(x: Columns<'_>, w: &[f32], q: &[f64], alphabet: Alphabet, choice: Choice) -> Replay {
    let mut u = vec![0.0f64; x.samples];
    let mut sizes = vec![0.0f64; x.samples];
    let mut found = Replay {
        error: 0.0,
        reach: 0.0,
        clipped: 0,
        rounding: 0.0,
    };
    let rounding = gamma(2 * w.len() + x.samples, UNIT_F64);
    let columns = x.data.chunks(x.samples.max(1));
    for (t, (column, norm)) in columns.zip(x.squared_norms()).enumerate() {
        let (w, q) = (f64::from(w[t]), q[t]);
        let mut product = 0.0;
        for (u, &x) in u.iter_mut().zip(column) {
            *u += w * f64::from(x);
            product += f64::from(x) * *u;
        }
        for ((u, size), &x) in u.iter_mut().zip(&mut sizes).zip(column) {
            *u -= q * f64::from(x);
            *size += (w.abs() + q.abs()) * f64::from(x).abs();
        }
        if norm > 0.0 {
            let (z, level) = (alphabet.index(product / norm), alphabet.index(q));
            let end = level.abs().round() >= f64::from(alphabet.top) && level * z > 0.0;
            // The quantizer summed in another order: the projections differ by the rounding of both sums.
            let room = 2.0 * rounding * alphabet.index(length(&sizes) / norm.sqrt());
            if z.abs() > choice.within(alphabet) && end {
                found.clipped += 1;
            } else {
                found.reach = found.reach.max((z - level).abs() - room);
            }
        }
    }
    found.error = length(&u);
    found.rounding = rounding * length(&sizes);
    found
}

fn length(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// What a quantized layer's codes stand for, unrounded, in the order of the weights.
pub fn levels(layer: &QuantizedLayer, fan_in: usize) -> Vec<f64> {
    let rows = layer.codes.chunks(fan_in.max(1)).enumerate();
    let row = |(o, codes): (usize, &[u16])| -> Vec<f64> {
        let (scale, zero) = layer.parameters(o);
        let level = |&c: &u16| f64::from(i32::from(c) - i32::from(zero)) * f64::from(scale);
        codes.iter().map(level).collect()
    };
    rows.flat_map(row).collect()
}

/// The alphabet of output channel `o` of a layer by path following, as its scales and zero points say.
pub fn alphabet(layer: &QuantizedLayer, o: usize) -> Alphabet {
    let (step, zero) = layer.parameters(o);
    let top = u32::from(zero);
    Alphabet { step, top }
}

/// `||X w - X q||_2 <= (step / 2) ||X||_F`, for nearest levels; says nothing of a clipped neuron.
pub fn norm(x: Columns<'_>, replay: &Replay, step: f64) -> Check {
    let promised = 0.5 * step * x.frobenius().sqrt() * (1.0 + room(x));
    Check::certain(
        promised + replay.rounding,
        replay.error,
        !replay.is_clipped(Choice::Nearest),
    )
}

/// `|z_t - q_t| <= reach` steps at every choice of these neurons that is not clipped.
pub fn choices(replays: &[Replay], choice: Choice) -> Check {
    let reach = replays.iter().fold(0.0, |m: f64, r| m.max(r.reach));
    Check::certain(choice.reach(), reach, true)
}

/// The two bounds on the mean of `||X w - X q||_2^2` of stochastic rounding: by samples and by norm.
pub fn expectation(x: Columns<'_>, step: f64) -> [f64; 2] {
    let quarter = 0.25 * step * step * (1.0 + room(x));
    [
        x.samples as f64 * quarter * x.largest(),
        quarter * x.frobenius(),
    ]
}

/// Relative rounding of a squared norm.
fn room(x: Columns<'_>) -> f64 {
    gamma(x.data.len() + 4, UNIT_F64)
}
