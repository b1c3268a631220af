//! A layer of both networks as matrices over flattened elements.

use rayon::prelude::*;

use super::Rounding;
use super::range::Range;
use crate::bounds::BoundError;
use crate::network::{Activation, Node, Op};
use crate::tensor::Shape;
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Most coefficients of one layer.
pub const LARGEST: usize = 1 << 24;

/// A row-major matrix of numbers that f32 holds, or of differences of two such.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Inputs.
    pub cols: usize,
    /// One row per output.
    pub data: Vec<f64>,
}

/// One layer of both networks.
#[derive(Debug)]
pub struct Layer {
    pub node: usize,
    pub name: String,
    pub w: Matrix,
    pub q: Matrix,
    change: Matrix,
    pub bias: Vec<f64>,
    pub bias_q: Vec<f64>,
    shift: Vec<f64>,
    pub activation: Activation,
    pub rounding: Option<Rounding>,
}

impl Layer {
    pub fn new(
        index: usize,
        (node, other): (&Node, &Node),
        input: Shape,
        rounding: Option<Rounding>,
    ) -> Result<Self, BoundError> {
        let (w, bias) = matrix(node, input)?;
        let (q, bias_q) = matrix(other, input)?;
        if (w.cols, w.data.len()) != (q.cols, q.data.len()) {
            return Err(BoundError::Assumption {
                node: node.name.clone(),
                why: "differs from the quantized network's in more than parameters".into(),
            });
        }
        let less =
            |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        Ok(Self {
            node: index,
            name: node.name.clone(),
            change: Matrix {
                cols: w.cols,
                data: less(&q.data, &w.data),
            },
            shift: less(&bias_q, &bias),
            w,
            q,
            bias,
            bias_q,
            activation: node.activation,
            rounding,
        })
    }

    /// `M [d] + (W' - W) [y] + b' - b` before the activation.
    pub fn carried(&self, m: &Matrix, d: &[Range], y: &[Range]) -> Vec<Range> {
        let through = m.image(&vec![0.0; self.shift.len()], d);
        let fresh = self.change.image(&self.shift, y);
        let parts = through.iter().zip(&fresh);
        parts.map(|(a, b)| a.add(*b)).collect()
    }
}

impl Matrix {
    /// One per output.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.data.chunks_exact(self.cols)
    }

    /// The image of a box, rounded outward.
    pub fn image(&self, bias: &[f64], x: &[Range]) -> Vec<Range> {
        let row = |(row, &b): (&[f64], &f64)| {
            let (mut lo, mut hi, mut size) = (b, b, b.abs());
            for (&w, x) in row.iter().zip(x) {
                let (low, high) = if w >= 0.0 { (x.lo, x.hi) } else { (x.hi, x.lo) };
                lo += w * low;
                hi += w * high;
                size += w.abs() * x.magnitude();
            }
            if size == 0.0 {
                return Range::ZERO;
            }
            // Relative errors (one more for differences of weights), and the absolute ones of products that underflow.
            let n = self.cols;
            let error = 2.0 * gamma(n + 16, UNIT_F64) * size + (2 * n) as f64 * f64::MIN_POSITIVE;
            Range::new(lo - error, hi + error)
        };
        let rows = self.data.par_chunks_exact(self.cols).zip(bias);
        rows.map(row).collect()
    }
}

/// The matrix of a node over the flattened elements of its input, and its bias for every element.
fn matrix(node: &Node, input: Shape) -> Result<(Matrix, Vec<f64>), BoundError> {
    let wrong = |why: String| {
        Err(BoundError::Assumption {
            node: node.name.clone(),
            why,
        })
    };
    let (rows, cols) = (node.shape.len(), input.len());
    if rows.saturating_mul(cols) > LARGEST {
        return wrong(format!(
            "{rows} x {cols} coefficients: enclosures take at most {LARGEST} per layer"
        ));
    }
    let Some(affine) = node.affine() else {
        return wrong("is no layer".into());
    };
    if !affine
        .weight
        .iter()
        .chain(affine.bias)
        .all(|w| w.is_finite())
    {
        return wrong("needs finite parameters".into());
    }
    let mut data = vec![0.0; rows * cols];
    match &node.op {
        Op::Conv(conv) => {
            let [kh, kw] = conv.kernel();
            let (h, w) = (node.shape.h, node.shape.w);
            for (r, row) in data.chunks_exact_mut(cols).enumerate() {
                let (o, y, x) = (r / (h * w), r / w % h, r % w);
                for (i, kernel) in affine.row(o).chunks_exact(kh * kw).enumerate() {
                    let channel = affine.first_input(o) + i;
                    for (t, &weight) in kernel.iter().enumerate() {
                        let yy = y * conv.stride[0] + t / kw * conv.dilation[0];
                        let xx = x * conv.stride[1] + t % kw * conv.dilation[1];
                        let inside = |p: usize, pad: usize, size: usize| {
                            p.checked_sub(pad).filter(|p| *p < size)
                        };
                        let yy = inside(yy, conv.pad.top, input.h);
                        let xx = inside(xx, conv.pad.left, input.w);
                        if let Some((yy, xx)) = yy.zip(xx) {
                            row[(channel * input.h + yy) * input.w + xx] = f64::from(weight);
                        }
                    }
                }
            }
        }
        _ => {
            let values = data.iter_mut().zip(affine.weight);
            values.for_each(|(d, &w)| *d = f64::from(w));
        }
    }
    let pixels = rows / affine.out;
    let bias = affine.bias.iter();
    let bias = bias.flat_map(|&b| std::iter::repeat_n(f64::from(b), pixels));
    Ok((Matrix { cols, data }, bias.collect()))
}
