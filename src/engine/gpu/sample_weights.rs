//! Weights of the passes that bound errors: magnitudes and differences of both networks' parameters, rounded so that
//! what the device may flush to zero is not lost.

use super::device::Gpu;
use super::weights::LayerWeights;
use crate::engine::EngineError;
use crate::network::Node;
use crate::tensor::tolerance::UNIT_WGSL;

/// One layer's.
pub struct SampleWeights {
    /// `|W'|`, no bias.
    pub variant: LayerWeights,
    /// `|W| + |W'|` and `|b| + |b'|`.
    pub both: LayerWeights,
    /// `W' - W` and `b' - b`; `None` where nothing changes.
    pub change: Option<LayerWeights>,
    /// For a ball: `|W|` and `|W' - W|`, no bias.
    pub ball: Option<(LayerWeights, LayerWeights)>,
    /// The largest row sum of `|W| + |W'|`.
    pub norm: f64,
}

impl SampleWeights {
    /// Of a layer and its counterpart in the variant; `None` for nodes without parameters.
    pub fn upload(
        gpu: &Gpu,
        node: &Node,
        other: &Node,
        ball: bool,
    ) -> Result<Option<Self>, EngineError> {
        let Some((a, b)) = node.affine().zip(other.affine()) else {
            return Ok(None);
        };
        let upload = |weight: &dyn Fn(f32, f32) -> f32, bias: &dyn Fn(f32, f32) -> f32| {
            let mut derived = node.clone();
            let fill = |to: &mut [f32], a: &[f32], b: &[f32], f: &dyn Fn(f32, f32) -> f32| {
                let pairs = a.iter().zip(b);
                to.iter_mut()
                    .zip(pairs)
                    .for_each(|(t, (&a, &b))| *t = f(a, b));
            };
            if let Some(to) = derived.weight_mut() {
                fill(to.data_mut(), a.weight, b.weight, weight);
            }
            if let Some(to) = derived.bias_mut() {
                fill(to, a.bias, b.bias, bias);
            }
            let made = LayerWeights::upload(gpu, &derived, None)?;
            made.ok_or_else(|| EngineError::Usage(format!("node {} has no weights", node.name)))
        };
        let none = |_: f32, _: f32| 0.0;
        let sum = |w: f32, q: f32| (w.abs() + q.abs()).next_up();
        let both = |w: f32, q: f32| match (w, q) {
            (0.0, 0.0) => 0.0,
            _ => sum(w, q) + lost(w) + lost(q) + lost(q - w),
        };
        let bias = |p: f32, q: f32| if p == 0.0 && q == 0.0 { 0.0 } else { sum(p, q) };
        let change = |w: f32, q: f32| q - w;
        let changed = a.weight != b.weight || a.bias != b.bias;
        let sums = (0..a.out).map(|o| {
            let pairs = a.row(o).iter().zip(b.row(o));
            pairs
                .map(|(w, q)| f64::from(w.abs()) + f64::from(q.abs()))
                .sum()
        });
        Ok(Some(Self {
            variant: upload(&|_, q| magnitude(q), &none)?,
            both: upload(&both, &bias)?,
            change: changed.then(|| upload(&change, &change)).transpose()?,
            ball: if ball {
                Some((
                    upload(&|w, _| magnitude(w), &none)?,
                    upload(&|w, q| magnitude(q - w), &none)?,
                ))
            } else {
                None
            },
            norm: sums.fold(0.0, f64::max),
        }))
    }
}

/// `|w|`, at least a normal number where it is not zero.
fn magnitude(w: f32) -> f32 {
    if w.is_subnormal() {
        f32::MIN_POSITIVE
    } else {
        w.abs()
    }
}

/// A weight below the normal numbers may act as zero; this times a unit roundoff is no less.
fn lost(w: f32) -> f32 {
    if w.is_subnormal() {
        f32::MIN_POSITIVE / UNIT_WGSL as f32
    } else {
        0.0
    }
}
