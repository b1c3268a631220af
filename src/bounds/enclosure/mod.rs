//! Enclosures of the difference of two small networks over a box of inputs, element by element, where activations may be
//! quantized too (docs/bounds.md, enclosures).
//!
//! A [`Pair`] is a chain of dense layers and convolutions with ReLU, ReLU6 or nothing behind them. For every element of
//! every node, [`Pair::enclose`] returns intervals of `y`, `y'` and `y' - y` that hold for every input of the box, in
//! exact real arithmetic. Forms are affine in the inputs, so a layer may have at most [`LARGEST`] coefficients.

mod activated;
mod forms;
mod matrix;
mod range;

pub use super::grid::Rounding;
pub use matrix::LARGEST;
pub use range::Range;

use super::BoundError;
use crate::network::{Activation, Network, Op};
use forms::{Forms, Line, Stage};
use matrix::Layer;

/// Inputs `x` of the one network and `x + slope x + e` of the other, `e` in `offset`.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// Of each element of `x`, flattened.
    pub reference: Vec<Range>,
    /// 0 where both networks read the same; `-1/256` where one reads `k/255` and the other `k/256`.
    pub slope: f64,
    /// What the other network's inputs are moved by beside.
    pub offset: Range,
}

/// What an enclosure may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// `[y'] - [y]`, each network for itself: intervals for `R'`, forms for `R`.
    Naive,
    /// The difference carried along as an interval, `W' [d] + (W' - W) [y]` (Zhang, Song, Sun 2022, in their concrete
    /// mode).
    Interval,
    /// The difference of affine forms in the inputs (their symbolic mode).
    Symbolic,
    /// The intersection of all three at every node, and of `W [d] + (W' - W) [y']`.
    Together,
}

impl Rules {
    /// All, from the plainest.
    pub const ALL: [Rules; 4] = [
        Rules::Naive,
        Rules::Interval,
        Rules::Symbolic,
        Rules::Together,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Rules::Naive => "naive",
            Rules::Interval => "interval",
            Rules::Symbolic => "symbolic",
            Rules::Together => "together",
        }
    }

    fn carries(self) -> bool {
        matches!(self, Rules::Interval | Rules::Together)
    }

    fn forms_of_both(self) -> bool {
        matches!(self, Rules::Symbolic | Rules::Together)
    }
}

/// Intervals of one node's elements, after its activation and rounding.
#[derive(Clone, Debug, PartialEq)]
pub struct Enclosure {
    /// Of `y' - y`.
    pub difference: Vec<Range>,
    /// Of `y`.
    pub reference: Vec<Range>,
    /// Of `y'`.
    pub quantized: Vec<Range>,
}

/// A network and its quantized form, as chains of matrices.
#[derive(Debug)]
pub struct Pair {
    layers: Vec<Layer>,
    inputs: usize,
}

impl Pair {
    /// `quantized` has dequantized weights; `roundings` has one entry per node, `None` where the node's output is not
    /// rounded.
    ///
    /// # Errors
    /// Where the networks are no chains of dense layers, convolutions and flattening, differ in more than parameters, or
    /// are too large.
    pub fn new(
        network: &Network,
        quantized: &Network,
        roundings: &[Option<Rounding>],
    ) -> Result<Self, BoundError> {
        let wrong = |node: &str, why: &str| {
            Err(BoundError::Assumption {
                node: node.into(),
                why: why.into(),
            })
        };
        if network.nodes.len() != quantized.nodes.len() || roundings.len() != network.nodes.len() {
            return wrong("input", "both networks must have one graph");
        }
        let mut layers: Vec<Layer> = Vec::new();
        for (i, (node, other)) in network.nodes.iter().zip(&quantized.nodes).enumerate() {
            let same = (node.activation, node.shape, &node.inputs)
                == (other.activation, other.shape, &other.inputs);
            if !same || node.inputs != [i] {
                return wrong(
                    &node.name,
                    "enclosures need two networks that are one chain",
                );
            }
            let input = network.shape(node.inputs[0]);
            match node.op {
                Op::Linear(_) | Op::Conv(_) => {
                    let layer = Layer::new(i, (node, other), input, roundings[i])?;
                    layers.push(layer);
                }
                Op::Flatten if node.activation == Activation::Identity => {
                    if roundings[i].is_some() {
                        return wrong(&node.name, "flattening hands its input's grid on");
                    }
                }
                _ => {
                    return wrong(
                        &node.name,
                        "enclosures know dense layers, convolutions and flattening",
                    );
                }
            }
        }
        Ok(Self {
            layers,
            inputs: network.input.len(),
        })
    }

    /// Node indices of the layers, in the order of [`Pair::enclose`].
    pub fn nodes(&self) -> impl Iterator<Item = usize> + '_ {
        self.layers.iter().map(|l| l.node)
    }

    /// Intervals at every layer for all inputs.
    ///
    /// # Errors
    /// Where the box does not fit the network, or the intervals leave the range of f64.
    pub fn enclose(&self, inputs: &Inputs, rules: Rules) -> Result<Vec<Enclosure>, BoundError> {
        let others: &[Rules] = match rules {
            Rules::Together => &Rules::ALL[..3],
            _ => &[],
        };
        let others = others.iter().map(|&r| self.enclose(inputs, r));
        let others = others.collect::<Result<Vec<_>, _>>()?;
        let fits = |r: &Range| r.lo.is_finite() && r.hi.is_finite() && r.lo <= r.hi;
        let mut all = inputs.reference.iter().chain([&inputs.offset]);
        if inputs.reference.len() != self.inputs || !all.all(fits) {
            return Err(BoundError::Assumption {
                node: "input".into(),
                why: format!("needs {} finite intervals", self.inputs),
            });
        }
        let moved = |r: &Range| r.times(inputs.slope).add(inputs.offset);
        let mut at = Enclosure {
            difference: inputs.reference.iter().map(moved).collect(),
            reference: inputs.reference.clone(),
            quantized: Vec::new(),
        };
        // `1 + slope` is rounded, and so is its product.
        let other = |x: &Range| x.times(1.0 + inputs.slope).outward().add(inputs.offset);
        at.quantized = match inputs.slope {
            0.0 => at.reference.iter().map(|x| x.add(inputs.offset)).collect(),
            _ => at.reference.iter().map(other).collect(),
        };
        let start = at.clone();
        let mut found: Vec<Enclosure> = Vec::new();
        let mut reference: Vec<Stage<'_>> = Vec::new();
        let mut quantized: Vec<Stage<'_>> = Vec::new();
        for layer in &self.layers {
            let (mut u, mut q) = (
                layer.w.image(&layer.bias, &at.reference),
                layer.q.image(&layer.bias_q, &at.quantized),
            );
            reference.push(Stage::new(&layer.w, &layer.bias, &at.reference));
            quantized.push(Stage::new(&layer.q, &layer.bias_q, &at.quantized));
            let forms = Forms::of(&reference);
            meet(&mut u, &forms.ranges(&start.reference));
            let mut d = Range::differences(&q, &u);
            if rules.forms_of_both() {
                let forms_q = Forms::of(&quantized);
                meet(&mut q, &forms_q.ranges(&start.quantized));
                d = forms_q.less(&forms, inputs);
                if rules == Rules::Together {
                    meet(&mut d, &Range::differences(&q, &u));
                }
            }
            if rules.carries() {
                let one = layer.carried(&layer.q, &at.difference, &at.reference);
                match rules {
                    Rules::Interval => d = one,
                    _ => {
                        meet(&mut d, &one);
                        meet(
                            &mut d,
                            &layer.carried(&layer.w, &at.difference, &at.quantized),
                        );
                    }
                }
            }
            let mut ranges = d.iter().chain(&u).chain(&q);
            if ranges.any(|r| !(r.lo.is_finite() && r.hi.is_finite())) {
                return Err(BoundError::OutOfRange {
                    node: layer.name.clone(),
                    why: "the intervals leave the range of f64".into(),
                });
            }
            let lines = |ranges: &[Range], rounding: Option<Rounding>| -> Vec<Line> {
                let line = |r: &Range| Line::of(layer.activation, rounding, *r);
                ranges.iter().map(line).collect()
            };
            if let Some(stage) = reference.last_mut() {
                stage.lines = lines(&u, None);
            }
            if let Some(stage) = quantized.last_mut() {
                stage.lines = lines(&q, layer.rounding);
            }
            at = activated::after(layer.activation, layer.rounding, &d, &u, &q);
            for other in &others {
                at.meet(&other[found.len()]);
            }
            found.push(at.clone());
        }
        Ok(found)
    }
}

impl Enclosure {
    fn meet(&mut self, other: &Self) {
        meet(&mut self.difference, &other.difference);
        meet(&mut self.reference, &other.reference);
        meet(&mut self.quantized, &other.quantized);
    }
}

/// Intersects element by element.
fn meet(a: &mut [Range], b: &[Range]) {
    a.iter_mut().zip(b).for_each(|(x, y)| *x = x.meet(*y));
}
