//! The operator-norm recursion in l2, with certified spectral norms.

use super::layer_norms::is_end;
use super::scaled::{Up, UpVec, inflate};
use super::setting::Weights;
use super::sums::{repeated, row_sums};
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::network::{Node, Op, Window};
use crate::tensor::Shape;

/// `E_l = ||W'_l||_2 E + ||dW_l||_2 B + ||db_l||_2`, or the same with `W` and `B'`.
pub(super) struct Spectral {
    /// Clamps the error by what the magnitudes allow.
    pub cap: bool,
}

/// Bounds on the l2 norms over a whole map: of the error, and of the values in each network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norms {
    pub error: Up,
    pub reference: Up,
    pub quantized: Up,
}

impl Norms {
    pub fn zip(self, other: Norms, f: impl Fn(Up, Up) -> Up) -> Norms {
        Norms {
            error: f(self.error, other.error),
            reference: f(self.reference, other.reference),
            quantized: f(self.quantized, other.quantized),
        }
    }

    pub fn scaled(self, gain: Up) -> Norms {
        self.zip(self, |x, _| x * gain)
    }

    /// The norms of the input.
    pub fn of_input(setting: &Setting) -> Norms {
        let magnitude = over_pixels(
            &UpVec::new(setting.domain().magnitudes()),
            setting.network().input,
        );
        Norms {
            error: Up::ZERO,
            reference: magnitude,
            quantized: magnitude,
        }
    }

    /// What the activation of node `index` leaves, and with `cap` what the magnitudes allow.
    pub fn activated(mut self, setting: &Setting, index: usize, cap: bool) -> Norms {
        let node = &setting.network().nodes[index];
        let limit = setting
            .rescaling()
            .caps(setting.network(), index)
            .map(|caps| over_pixels(&UpVec::new(caps), node.shape));
        if let Some(limit) = limit {
            self.reference = self.reference.min(limit);
            self.quantized = self.quantized.min(limit);
        }
        if cap {
            self.error = self.error.min(if setting.is_nonnegative(index + 1) {
                // |a - b| <= max(a, b), so the squares add.
                (self.reference * self.reference + self.quantized * self.quantized).sqrt()
            } else {
                self.reference + self.quantized
            });
            self.error = self.error.min(limit.unwrap_or(self.error));
        }
        self
    }
}

/// The largest error of any channel at node `index`, in the network's own units; with `cap` no more than the
/// activation's range.
pub(super) fn reported(setting: &Setting, index: usize, peaks: &[Up], cap: bool) -> Up {
    let units = setting.rescaling().of_value(index + 1);
    let own = peaks.iter().zip(units.iter());
    let error = own.map(|(&e, &s)| e * Up::new(s)).fold(Up::ZERO, Up::max);
    let node = &setting.network().nodes[index];
    match node.activation.cap().filter(|_| cap) {
        Some(range) => error.min(Up::new(range)),
        None => error,
    }
}

/// The l2 norm of a map whose channels are bounded by `magnitudes` at every pixel.
pub(super) fn over_pixels(magnitudes: &UpVec, shape: Shape) -> Up {
    magnitudes.norm_l2() * Up::new(shape.pixels() as f64).sqrt()
}

/// Bounds on the error of single elements at node `index`, per channel: what the Euclidean norms of its rows make of
/// the norms before it, by Lemma 1 what its inputs' peaks allow, and no more than the l2 error of the whole map. With `cap`
/// no more than the magnitudes allow, at a layer whose own spectral norm is not looked for.
pub(super) fn peaks(
    setting: &Setting,
    index: usize,
    states: &[Norms],
    before: &[Vec<Up>],
    (error, cap): (Up, bool),
) -> Vec<Up> {
    let node = &setting.network().nodes[index];
    let first = &before[node.inputs[0]];
    let rest = || node.inputs[1..].iter().map(|&v| &before[v]);
    let found: Vec<Up> = match (
        &node.op,
        setting.row_norms(index, || row_norms(setting, index)),
    ) {
        (_, Some(norms)) => {
            let x = states[node.inputs[0]];
            let bias = |which| {
                let biases = setting.rescaled_biases(index, which).into_iter();
                biases.map(|b| Up::new(inflate(b.abs(), 2)))
            };
            let errors = norms.iter().zip(bias(Weights::Difference));
            let errors = errors.map(|(&[w, q, d], b)| {
                let one = q * x.error + d * x.reference;
                let other = w * x.error + d * x.quantized;
                one.min(other) + b
            });
            if !cap || !is_end(setting.network(), index) {
                errors.collect()
            } else {
                let own = bias(Weights::Reference).zip(bias(Weights::Quantized));
                let own = norms.iter().zip(own).map(|(&[w, q, _], (b, c))| {
                    let (reference, quantized) = (w * x.reference + b, q * x.quantized + c);
                    match setting.is_nonnegative(index + 1) {
                        true => reference.max(quantized),
                        false => reference + quantized,
                    }
                });
                errors.zip(own).map(|(e, most)| e.min(most)).collect()
            }
        }
        (Op::Add, _) => rest().fold(first.clone(), |sum, part| {
            sum.iter().zip(part).map(|(&a, &b)| a + b).collect()
        }),
        (Op::Concat, _) => rest().fold(first.clone(), |all, part| [&all[..], part].concat()),
        (Op::Flatten, _) => {
            let pixels = setting.network().shape(node.inputs[0]).pixels();
            let each = first.iter();
            each.flat_map(|&e| std::iter::repeat_n(e, pixels)).collect()
        }
        (Op::Channels(channels), _) => channels.sources().map(|c| first[c]).collect(),
        // Averages and maxima; no setting is made of a network with the others.
        _ => first.clone(),
    };
    found.into_iter().map(|e| e.min(error)).collect()
}

/// No error at the input.
pub(super) fn no_peaks(setting: &Setting) -> Vec<Vec<Up>> {
    vec![vec![Up::ZERO; setting.network().input.c]]
}

/// The Euclidean norms of the rows of `W`, `W'` and `W' - W`, by row; `None` for a node without parameters.
fn row_norms(setting: &Setting, node: usize) -> Option<Vec<[Up; 3]>> {
    let (a, b) = setting.affine(node)?;
    let scales = setting.rescaling().of_layer(setting.network(), node);
    let columns = repeated(scales.columns, a.taps);
    // Factors are far from the ends of f64; those of one row are divided by once, after its squares are summed.
    let sums = row_sums(
        [a.weight, b.weight],
        a.fan_in(),
        |o| a.first_input(o) * a.taps,
        [&columns],
        |[w, q], [c]| [w, q, q - w].map(|x| (x * c) * (x * c)),
    );
    let norms = sums.into_iter().zip(scales.rows);
    // Three roundings of an entry, which a square doubles, and its own.
    let norm = |sum, row| {
        Up::new(inflate(sum, a.fan_in() + 8))
            .sqrt()
            .over(Up::new(row))
    };
    Some(
        norms
            .map(|(sums, &row)| sums.map(|s| norm(s, row)))
            .collect(),
    )
}

impl Bound for Spectral {
    fn facts(&self) -> &'static BoundFacts {
        if self.cap {
            &facts::SPECTRAL_CAP
        } else {
            &facts::SPECTRAL
        }
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let mut states = vec![Norms::of_input(setting)];
        let mut errors = no_peaks(setting);
        let mut series = Vec::new();
        for (i, node) in setting.network().nodes.iter().enumerate() {
            let norms = before_activation(setting, i, node, &states);
            let norms = norms.activated(setting, i, self.cap);
            errors.push(peaks(setting, i, &states, &errors, (norms.error, self.cap)));
            series.push(reported(setting, i, &errors[i + 1], self.cap));
            states.push(norms);
        }
        Ok(Series::of(series))
    }
}

/// One node of the plain recursion.
pub(super) fn before_activation(
    setting: &Setting,
    index: usize,
    node: &Node,
    states: &[Norms],
) -> Norms {
    let first = states[node.inputs[0]];
    let rest = || node.inputs[1..].iter().map(|&v| states[v]);
    let input = setting.network().shape(node.inputs[0]);
    match &node.op {
        Op::Conv(_) | Op::Linear(_) => {
            let Some(layer) = setting.spectral(index) else {
                return first;
            };
            let bias = |which| bias_norm(setting, index, which);
            let one = layer.quantized * first.error + layer.difference * first.reference;
            let other = layer.reference * first.error + layer.difference * first.quantized;
            Norms {
                error: one.min(other) + bias(Weights::Difference),
                reference: layer.reference * first.reference + bias(Weights::Reference),
                quantized: layer.quantized * first.quantized + bias(Weights::Quantized),
            }
        }
        Op::Add => rest().fold(first, |a, b| a.zip(b, |x, y| x + y)),
        Op::Concat => rest().fold(first, |a, b| a.zip(b, |x, y| (x * x + y * y).sqrt())),
        // No channel is taken twice.
        Op::Flatten | Op::Channels(_) => first,
        // No setting is made of a network with these.
        Op::Function(_) | Op::Product | Op::ResponseNorm(_) => first,
        Op::MaxPool(window) => first.scaled(Up::new(overlap(window) as f64).sqrt()),
        Op::AvgPool {
            window,
            count_include_pad,
        } => {
            let pixels = if *count_include_pad {
                window.kernel[0] * window.kernel[1]
            } else {
                fewest_pixels(window, input, node.shape)
            };
            let squared = Up::new(overlap(window) as f64).over(Up::new(pixels as f64));
            first.scaled(squared.sqrt())
        }
        Op::GlobalAvgPool => first.scaled(Up::ONE.over(Up::new(input.pixels() as f64)).sqrt()),
    }
}

/// The l2 norm of a layer's biases, or of their difference, over its output map.
pub(super) fn bias_norm(setting: &Setting, index: usize, which: Weights) -> Up {
    let biases = setting.rescaled_biases(index, which).into_iter();
    let magnitudes = UpVec::new(biases.map(|b| inflate(b.abs(), 2)).collect());
    over_pixels(&magnitudes, setting.network().nodes[index].shape)
}

/// How many windows share a pixel at most.
fn overlap(window: &Window) -> usize {
    let along = |i: usize| window.kernel[i].div_ceil(window.stride[i]);
    along(0) * along(1)
}

/// The fewest real pixels in any window.
fn fewest_pixels(window: &Window, input: Shape, output: Shape) -> usize {
    let fewest = |outputs: usize, extent: usize, before: usize, i: usize| {
        let real = |o: usize| {
            let start = o * window.stride[i];
            let end = (start + window.kernel[i]).min(before + extent);
            end.saturating_sub(start.max(before))
        };
        (0..outputs).map(real).min().unwrap_or(1).max(1)
    };
    fewest(output.h, input.h, window.pad.top, 0) * fewest(output.w, input.w, window.pad.left, 1)
}
