//! Affine forms in the inputs, below and above each element, found by going back layer by layer.

use rayon::prelude::*;

use super::Inputs;
use super::Rounding;
use super::activated::clamp_of;
use super::matrix::Matrix;
use super::range::Range;
use crate::network::Activation;
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Two lines with an activation (and rounding) between them: `slope u + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    low: [f64; 2],
    high: [f64; 2],
}

/// A layer that forms go back through.
pub struct Stage<'a> {
    pub matrix: &'a Matrix,
    pub bias: &'a [f64],
    /// Per output, the largest `|W| |x| + |b|`.
    pub reach: Vec<f64>,
    /// Per output, of the activation behind it.
    pub lines: Vec<Line>,
}

/// Per element, affine forms in the inputs with the element between them.
pub struct Forms {
    low: Vec<Form>,
    high: Vec<Form>,
}

/// `coefficients x + shift`, and how far rounding may have moved it.
struct Form {
    coefficients: Vec<f64>,
    shift: f64,
    slack: f64,
}

impl<'a> Stage<'a> {
    /// Of inputs in `x`; its lines are not known yet.
    pub fn new(matrix: &'a Matrix, bias: &'a [f64], x: &[Range]) -> Self {
        let reach = |row: &[f64], b: f64| {
            let products = row.iter().zip(x).map(|(w, x)| w.abs() * x.magnitude());
            products.sum::<f64>() + b.abs()
        };
        Self {
            matrix,
            bias,
            reach: matrix
                .rows()
                .zip(bias)
                .map(|(row, &b)| reach(row, b))
                .collect(),
            lines: Vec::new(),
        }
    }
}

impl Line {
    /// For `u` in `range`. Each activation is a clamp, and a grid behind it another one with a rounding: convex on one side
    /// of the line between the ends and concave on the other.
    pub fn of(activation: Activation, rounding: Option<Rounding>, range: Range) -> Self {
        let (clamp, half) = (
            clamp_of(activation, rounding),
            rounding.map_or(0.0, |r| r.half),
        );
        let Range { lo, hi } = range;
        let (a, b) = (clamp.lo, clamp.hi);
        let constant = |c: f64| [0.0, c];
        // The line through the clamp's values at two points, moved so that it is right at both in floating point.
        let chord = |p: f64, q: f64, above: bool| {
            let (fp, fq) = (p.clamp(a, b), q.clamp(a, b));
            let slope = (fq - fp) / (q - p);
            let (at_p, at_q) = (fp - slope * p, fq - slope * q);
            let size = f64::EPSILON * 4.0 * (fp.abs() + fq.abs() + slope * (p.abs() + q.abs()));
            match above {
                true => [slope, at_p.max(at_q) + size],
                false => [slope, at_p.min(at_q) - size],
            }
        };
        if hi <= a || lo >= b {
            // Both ends are on the grid: nothing is rounded.
            let end = if hi <= a { a } else { b };
            return Self {
                low: constant(end),
                high: constant(end),
            };
        }
        let identity = [1.0, 0.0];
        // Above: straight where nothing is cut off below, else the chord from the lower end to where the clamp tops out.
        let high = match (lo >= a, hi <= b) {
            (true, true) => identity,
            (true, false) if hi - b < b - lo => identity,
            (true, false) => constant(b),
            (false, top) => chord(lo, if top { hi } else { b }, true),
        };
        let low = match (lo >= a, hi <= b) {
            (true, true) => identity,
            (false, true) if hi - a > a - lo => identity,
            (false, true) => constant(a),
            (true, false) => chord(lo, hi, false),
            (false, false) if hi - a > a - lo => chord(a, hi, false),
            (false, false) => constant(a),
        };
        let moved = |line: [f64; 2], by: f64| match line {
            [0.0, end] => [0.0, end],
            [slope, shift] => {
                let rounding = 4.0 * f64::EPSILON * (shift.abs() + by.abs());
                [slope, shift + by + rounding.copysign(by)]
            }
        };
        Self {
            low: moved(low, -half),
            high: moved(high, half),
        }
    }
}

impl Forms {
    /// Of the last stage's outputs, before its activation.
    pub fn of(stages: &[Stage<'_>]) -> Self {
        let Some((last, before)) = stages.split_last() else {
            return Self {
                low: Vec::new(),
                high: Vec::new(),
            };
        };
        let side = |above: bool| -> Vec<Form> {
            let rows = last.matrix.data.par_chunks_exact(last.matrix.cols);
            let rows = rows.zip(last.bias).zip(&last.reach);
            rows.map(|((row, &b), &reach)| {
                let mut form = Walk {
                    coefficients: row.to_vec(),
                    shift: b,
                    size: reach,
                    terms: last.matrix.cols,
                };
                before.iter().rev().for_each(|s| form.back(s, above));
                form.end()
            })
            .collect()
        };
        Self {
            low: side(false),
            high: side(true),
        }
    }

    /// Intervals of the elements over a box of inputs.
    pub fn ranges(&self, x: &[Range]) -> Vec<Range> {
        let pairs = self.low.iter().zip(&self.high);
        pairs
            .map(|(low, high)| Range::new(least(low, x), -least(&high.negative(), x)))
            .collect()
    }

    /// Intervals of these forms of `R'` less those of `R`.
    pub fn less(&self, reference: &Forms, inputs: &Inputs) -> Vec<Range> {
        let low = self.low.iter().zip(&reference.high);
        let high = self.high.iter().zip(&reference.low);
        let x = &inputs.reference;
        low.zip(high)
            .map(|((q, y), (q_high, y_low))| {
                let low = q.less(y, inputs, false);
                let high = q_high.less(y_low, inputs, true);
                Range::new(least(&low, x), -least(&high.negative(), x))
            })
            .collect()
    }
}

/// A form on its way back to the inputs.
struct Walk {
    coefficients: Vec<f64>,
    shift: f64,
    /// Of all that was added up, in magnitude.
    size: f64,
    /// Roundings on the way.
    terms: usize,
}

impl Walk {
    /// From the outputs of a stage (behind its activation) to its inputs.
    fn back(&mut self, stage: &Stage<'_>, above: bool) {
        let mut next = vec![0.0; stage.matrix.cols];
        let outputs = self.coefficients.iter().zip(&stage.lines);
        let rows = stage.matrix.rows().zip(stage.bias).zip(&stage.reach);
        for ((&c, line), ((row, &b), &reach)) in outputs.zip(rows) {
            if c == 0.0 {
                continue;
            }
            let [slope, shift] = match (c > 0.0) == above {
                true => line.high,
                false => line.low,
            };
            let through = c * slope;
            self.shift += c * shift + through * b;
            self.size += c.abs() * shift.abs() + 2.0 * through.abs() * reach;
            if through != 0.0 {
                next.iter_mut()
                    .zip(row)
                    .for_each(|(n, w)| *n += through * w);
            }
        }
        self.terms += stage.bias.len() + stage.matrix.cols;
        self.coefficients = next;
    }

    fn end(self) -> Form {
        Form {
            coefficients: self.coefficients,
            shift: self.shift,
            // Every coefficient, product and sum is rounded; each error meets a value that its stage's reach bounds.
            slack: 4.0 * gamma(4 * self.terms + 64, UNIT_F64) * self.size
                + self.terms as f64 * f64::MIN_POSITIVE,
        }
    }
}

impl Form {
    fn negative(&self) -> Form {
        Form {
            coefficients: self.coefficients.iter().map(|c| -c).collect(),
            shift: -self.shift,
            slack: self.slack,
        }
    }

    /// This form of `R'` less one of `R`, in the inputs of `R`: above what it may be, or below.
    fn less(&self, other: &Form, inputs: &Inputs, above: bool) -> Form {
        let Inputs {
            reference,
            slope,
            offset,
        } = inputs;
        let (mut shift, mut size) = (
            self.shift - other.shift,
            self.shift.abs() + other.shift.abs(),
        );
        let pairs = self
            .coefficients
            .iter()
            .zip(&other.coefficients)
            .zip(reference);
        let coefficients = pairs.map(|((&q, &y), x)| {
            shift += q * if (q >= 0.0) == above {
                offset.hi
            } else {
                offset.lo
            };
            let reach = x.magnitude() * (1.0 + slope.abs()) + offset.magnitude();
            size += q.abs() * reach + y.abs() * x.magnitude();
            (1.0 + slope) * q - y
        });
        let coefficients: Vec<f64> = coefficients.collect();
        let rounding = 2.0 * gamma(coefficients.len() + 16, UNIT_F64) * size;
        Form {
            coefficients,
            shift,
            slack: self.slack + other.slack + rounding,
        }
    }
}

/// The smallest value over a box, rounded downward.
fn least(form: &Form, x: &[Range]) -> f64 {
    let (mut sum, mut size) = (form.shift, form.shift.abs());
    for (&c, x) in form.coefficients.iter().zip(x) {
        sum += c * if c >= 0.0 { x.lo } else { x.hi };
        size += c.abs() * x.magnitude();
    }
    sum - form.slack - 2.0 * gamma(x.len() + 16, UNIT_F64) * size - f64::MIN_POSITIVE
}
