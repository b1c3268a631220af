//! Study `attribution`: at every layer, the error that comes through it and the error that it makes, image by image.
//!
//! `u' - u = W' (y'_in - y_in) + ((W' - W) y_in + b' - b)` before the activation: both summands are found by running the
//! layer alone in f64, quantized on both networks' inputs and in full precision on its own.

use arrow_array::RecordBatch;

use super::{CellStudy, Study, StudyTable, Subject, encode};
use crate::engine::{Engine, EngineError};
use crate::experiment::code;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::Plan;
use crate::experiment::subject::context::ModelContext;
use crate::network::{Activation, INPUT, Network, Node, ValueId};
use crate::results::schema::{AttributionRow, Row};
use crate::tensor::{Batch, Shape};

/// The study, on so many images.
pub struct Attribution {
    /// The first of the run's.
    pub images: usize,
}

/// Stem of its table.
pub const TABLE: &str = AttributionRow::TABLE;

impl Study for Attribution {
    fn name(&self) -> &'static str {
        TABLE
    }

    fn settings(&self, _: &Plan) -> String {
        format!("images {}", self.images)
    }

    fn code(&self) -> &'static str {
        code::ATTRIBUTION
    }

    fn tables(&self) -> Vec<StudyTable> {
        vec![StudyTable::of::<AttributionRow>()]
    }
}

/// What one layer does to an error.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// `W' (y'_in - y_in)`, element by element.
    pub carried: Vec<f64>,
    /// `(W' - W) y_in + b' - b`.
    pub fresh: Vec<f64>,
}

impl Split {
    /// Of a node and its quantized form, which read `y` and `y'`, on an f64 engine.
    pub fn of(
        engine: &dyn Engine,
        (node, quantized): (&Node, &Node),
        y: &Batch,
        other: &Batch,
    ) -> Result<Self, SweepError> {
        let run = |node: &Node, input: &Batch| -> Result<Vec<f64>, SweepError> {
            let mut alone = Network::new(node.name.as_str(), input.shape);
            alone.push(&node.name, node.op.clone(), &[INPUT], Activation::Identity)?;
            let values = engine.prepare(&alone)?.trace(input, None)?.pop();
            let missing = || EngineError::Usage(format!("{}: no output", node.name));
            Ok(values.ok_or_else(missing)?.data)
        };
        let full = run(node, y)?;
        let (changed, moved) = (run(quantized, y)?, run(quantized, other)?);
        let less =
            |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        Ok(Self {
            carried: less(&moved, &changed),
            fresh: less(&changed, &full),
        })
    }
}

impl CellStudy for Attribution {
    fn cell(
        &self,
        subject: &Subject<'_>,
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<RecordBatch>, SweepError> {
        let (given, model) = (subject.given, subject.model);
        let network = &model.network;
        let quantized = subject.quantized.dequantize(network);
        let key = &subject.cell.key;
        let variant = context.variant(subject.cell, tell)?;
        let mut rows = Vec::new();
        for i in 0..self.images.min(given.images.len()) {
            let input = given.images.load(i..i + 1, &model.preprocessing)?;
            let runner = context.runner()?;
            let full = runner.trace(&input, None)?;
            let other = runner.trace(&input, Some(&variant))?;
            let mut depth = 0;
            let mut chains = Chains::default();
            for (n, node) in network.nodes.iter().enumerate() {
                let behind = l2(&differences(&other[n].data, &full[n].data));
                if !node.is_layer() {
                    chains.through(node, behind);
                    continue;
                }
                depth += 1;
                let read = node.inputs[0];
                let y = value(&input, &full, read, network.shape(read));
                let y_other = value(&input, &other, read, network.shape(read));
                let pair = (node, &quantized.nodes[n]);
                let split = Split::of(given.reference, pair, &y, &y_other)?;
                let incoming: Vec<f64> = differences(&y_other.data, &y.data);
                let total: Vec<f64> = split
                    .carried
                    .iter()
                    .zip(&split.fresh)
                    .map(|(a, b)| a + b)
                    .collect();
                let (carried, fresh) = (l2(&split.carried), l2(&split.fresh));
                let product: f64 = split
                    .carried
                    .iter()
                    .zip(&split.fresh)
                    .map(|(a, b)| a * b)
                    .sum();
                let ratio = |a: f64, b: f64| (b != 0.0).then(|| a / b);
                let whole = l2(&total);
                let made = [carried, fresh, whole, behind];
                let chain = chains.layer(read, made, l2(&incoming));
                rows.push(AttributionRow {
                    cell_id: key.cell_id.clone(),
                    model: key.model.clone(),
                    quantizer: key.quantizer.clone(),
                    bits: key.bits,
                    granularity: key.granularity.name().to_string(),
                    image: given.images.images[i].name.clone(),
                    depth,
                    layer: node.name.clone(),
                    input_l2: l2(&incoming),
                    carried_l2: carried,
                    fresh_l2: fresh,
                    total_l2: whole,
                    cosine: ratio(product, carried * fresh),
                    gain: ratio(largest(&split.carried), largest(&incoming)),
                    norm: norm(pair.1),
                    passed: ratio(behind, whole),
                    chain_l2: chain,
                });
            }
        }
        Ok(vec![encode(&rows)?])
    }
}

/// Upper bounds on `||y' - y||_2` of every value from the gains that errors met: G of arXiv 2610.09877 (Lemma 1), with realized
/// ratios at activations, sums and pools too, so that it holds on any graph (docs/bounds.md, attribution).
struct Chains {
    /// By value: the bound, and the error itself.
    values: Vec<[f64; 2]>,
}

impl Default for Chains {
    fn default() -> Self {
        Self {
            values: vec![[0.0; 2]],
        }
    }
}

impl Chains {
    /// Of a layer that reads `read`, whose error is `incoming`: what it carries and makes, both together before its activation,
    /// and behind it.
    fn layer(
        &mut self,
        read: ValueId,
        [carried, fresh, whole, behind]: [f64; 4],
        incoming: f64,
    ) -> f64 {
        let [bound, _] = self.values[read];
        let before = scaled(bound, carried, incoming) + fresh;
        let after = scaled(before, behind, whole);
        self.values.push([after, behind]);
        after
    }

    /// Of a node without weights.
    fn through(&mut self, node: &Node, behind: f64) {
        let inputs = node.inputs.iter().map(|&v| self.values[v]);
        let [bound, error] = inputs.fold([0.0; 2], |[a, b], [x, y]| [a + x, b + y]);
        self.values.push([scaled(bound, behind, error), behind]);
    }
}

/// `bound * out / error`; what comes of no error is its own bound.
fn scaled(bound: f64, out: f64, error: f64) -> f64 {
    match error {
        0.0 => out,
        _ => bound * (out / error),
    }
}

/// A value of a pass, as a layer alone reads it: the input is value 0.
fn value(input: &Batch, trace: &[Batch<f64>], of: ValueId, shape: Shape) -> Batch {
    match of {
        INPUT => input.clone(),
        v => Batch {
            shape,
            // Values of f32, widened by the trace.
            data: trace[v - 1].data.iter().map(|&x| x as f32).collect(),
        },
    }
}

/// The largest sum of a row's magnitudes: the operator norm from inf to inf, which zero padding only lowers.
fn norm(node: &Node) -> f64 {
    let Some(a) = node.affine() else { return 0.0 };
    let row = |o: usize| a.row(o).iter().map(|&w| f64::from(w).abs()).sum();
    (0..a.out).map(row).fold(0.0, f64::max)
}

fn differences<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> Vec<f64> {
    let pairs = a.iter().zip(b);
    pairs.map(|(&a, &b)| a.into() - b.into()).collect()
}

fn l2(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The largest magnitude; NaN if there is one.
fn largest(x: &[f64]) -> f64 {
    x.iter()
        .map(|x| x.abs())
        .fold(0.0, |m, v| if v > m || v.is_nan() { v } else { m })
}
