//! Two networks of one skeleton, node by node on the same images: what each node of the second does to the first's values
//! (isolated), and how far the values are apart (accumulated).

use std::path::Path;

use super::error::SweepError;
use crate::engine::{Engine, EngineError, Runner};
use crate::network::onnx::{QuantizedModel, import_quantized_file};
use crate::network::skeleton::{Pair, Pairing, Side, pair};
use crate::network::{INPUT, Network, NetworkError, ValueId};
use crate::quant::imported::own;
use crate::quant::{QuantizedActivation, QuantizedNetwork};
use crate::tensor::{Batch, Shape};

/// A network as its file says it, codes and grids included.
#[derive(Clone, Debug)]
pub struct File {
    model: QuantizedModel,
    quantized: QuantizedNetwork,
}

impl File {
    /// Reads an ONNX file, quantized or not.
    pub fn open(path: &Path, side: Option<usize>) -> Result<Self, SweepError> {
        let model = import_quantized_file(path, side)?;
        let quantized = own(&model).map_err(|problem| NetworkError::File {
            path: path.display().to_string(),
            problem,
        })?;
        Ok(Self { model, quantized })
    }

    /// The network, with dequantized weights.
    pub fn network(&self) -> &Network {
        &self.model.imported.network
    }

    fn side(&self) -> Side<'_> {
        Side {
            network: self.network(),
            grids: &self.model.grids,
        }
    }
}

/// How far values are apart, over all images.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    /// `max |b - a|`
    pub max_abs_diff: f64,
    /// `sum (b - a)^2` of each channel.
    squares: Vec<f64>,
    /// `sum a^2`
    reference: f64,
    /// Elements where either value is NaN or infinite; they count nowhere else.
    pub non_finite: usize,
}

impl Apart {
    fn add(&mut self, a: &[f64], b: &[f64], shape: Shape) {
        self.squares.resize(shape.c, 0.0);
        for (i, (&x, &y)) in a.iter().zip(b).enumerate() {
            let diff = (y - x).abs();
            if !diff.is_finite() {
                self.non_finite += 1;
                continue;
            }
            self.max_abs_diff = self.max_abs_diff.max(diff);
            self.squares[i / shape.pixels() % shape.c] += diff * diff;
            self.reference += x * x;
        }
    }

    /// `10 log10 (sum a^2 / sum (b - a)^2)`; infinite where nothing differs.
    pub fn sqnr_db(&self) -> f64 {
        10.0 * (self.reference / self.squares.iter().sum::<f64>()).log10()
    }

    /// The channel that is furthest off, and its root mean square difference over that of all reference values.
    pub fn worst_channel(&self) -> (usize, f64) {
        let mean = self.reference / self.squares.len().max(1) as f64;
        let worst =
            (0..self.squares.len()).max_by(|&i, &j| self.squares[i].total_cmp(&self.squares[j]));
        let channel = worst.unwrap_or(0);
        let square = self.squares.get(channel).copied().unwrap_or(0.0);
        let share = match square > 0.0 {
            true => (square / mean).sqrt(),
            false => 0.0,
        };
        (channel, share)
    }
}

/// One convolution or dense layer.
#[derive(Clone, Debug)]
pub struct Compared {
    /// What was matched.
    pub pair: Pair,
    /// The tensors of the two files that were compared.
    pub tensors: [String; 2],
    /// The second network's layer on the first's values.
    pub isolated: Apart,
    /// The second network's values.
    pub accumulated: Apart,
}

/// Two networks on the same images.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The layers, the worst isolated one first.
    pub layers: Vec<Compared>,
    /// Of the outputs.
    pub output: Apart,
    /// Images.
    pub images: usize,
    /// Images whose largest output is the same.
    pub top1_agree: usize,
}

/// Runs both networks and every layer of the second alone.
pub fn compare(
    engine: &dyn Engine,
    a: &File,
    b: &File,
    batches: impl Iterator<Item = Result<Batch, SweepError>>,
) -> Result<Comparison, SweepError> {
    let pairing = pair(a.side(), b.side()).map_err(|problem| NetworkError::File {
        path: b.network().name.clone(),
        problem: format!(
            "is not of the architecture of {}: {problem}",
            a.network().name
        ),
    })?;
    let layers = pairing.pairs.iter();
    let layers: Vec<&Pair> = layers
        .filter(|p| a.network().nodes[p.a].is_layer())
        .collect();
    let places: Vec<(ValueId, ValueId)> = layers.iter().map(|p| place(a, &pairing, p)).collect();
    let tensor = |file: &File, v: ValueId| {
        let name = v
            .checked_sub(1)
            .and_then(|i| file.model.imported.tensors.get(i));
        name.cloned().unwrap_or_default()
    };
    let mut compared: Vec<Compared> = layers
        .iter()
        .zip(&places)
        .map(|(&pair, &(x, y))| Compared {
            pair: pair.clone(),
            tensors: [tensor(a, x), tensor(b, y)],
            isolated: Apart::default(),
            accumulated: Apart::default(),
        })
        .collect();
    let alone: Result<Vec<Alone>, SweepError> = compared
        .iter()
        .zip(&places)
        .map(|(c, &(_, end))| Alone::new(a.network(), c.pair.a, b, c.pair.b, end))
        .collect();
    let alone = alone?;
    let (mut output, mut images, mut top1_agree) = (Apart::default(), 0, 0);
    let (mut first, mut second) = (engine.prepare(a.network())?, engine.prepare(b.network())?);
    let mut solo: Vec<Box<dyn Runner + '_>> = Vec::new();
    for one in &alone {
        solo.push(engine.prepare(&one.network)?);
    }
    for batch in batches {
        let batch = batch?;
        let of_a = trace(first.as_mut(), &a.quantized, &batch)?;
        let of_b = trace(second.as_mut(), &b.quantized, &batch)?;
        let at =
            |all: &'_ [Batch<f64>], v: ValueId| v.checked_sub(1).and_then(|i| all.get(i).cloned());
        for (i, c) in compared.iter_mut().enumerate() {
            let (Some(x), Some(y)) = (at(&of_a, places[i].0), at(&of_b, places[i].1)) else {
                continue;
            };
            c.accumulated.add(&x.data, &y.data, x.shape);
            let read = a.network().nodes[c.pair.a].inputs[0];
            let input = match read {
                INPUT => batch.clone(),
                v => narrow(&of_a[v - 1]),
            };
            let own = trace(solo[i].as_mut(), &alone[i].grids, &input)?;
            if let Some(own) = own.last() {
                c.isolated.add(&x.data, &own.data, x.shape);
            }
        }
        if let (Some(x), Some(y)) = (of_a.last(), of_b.last()) {
            output.add(&x.data, &y.data, x.shape);
            for i in 0..batch.images() {
                top1_agree += usize::from(largest(x.image(i)) == largest(y.image(i)));
            }
        }
        images += batch.images();
    }
    compared.sort_by(|x, y| {
        y.isolated
            .worst_channel()
            .1
            .total_cmp(&x.isolated.worst_channel().1)
    });
    Ok(Comparison {
        layers: compared,
        output,
        images,
        top1_agree,
    })
}

/// The values that two matched nodes end in: those that the first reader of the first one takes, or the outputs.
fn place(a: &File, pairing: &Pairing, of: &Pair) -> (ValueId, ValueId) {
    for p in &pairing.pairs {
        for (k, &v) in a.network().nodes[p.a].inputs.iter().enumerate() {
            if pairing.a[v].core == Some(of.a) {
                return (v, pairing.read_of_b(p, k));
            }
        }
    }
    (pairing.a.len() - 1, pairing.b.len() - 1)
}

/// One layer of the second network with what follows it up to the next one.
struct Alone {
    network: Network,
    grids: QuantizedNetwork,
}

impl Alone {
    fn new(
        a: &Network,
        of_a: usize,
        b: &File,
        from: usize,
        end: ValueId,
    ) -> Result<Self, SweepError> {
        let input = a.shape(a.nodes[of_a].inputs[0]);
        let mut chain = Vec::new();
        let mut node = end.saturating_sub(1);
        while node != from {
            chain.push(node);
            node = b.network().nodes[node].inputs[0].saturating_sub(1);
        }
        chain.push(from);
        let mut network = Network::new("alone", input);
        let mut activations = Vec::new();
        let mut value = INPUT;
        for &i in chain.iter().rev() {
            let node = &b.network().nodes[i];
            let own = b.quantized.activations.iter().filter(|g| g.node == i);
            activations.extend(own.map(|g| QuantizedActivation { node: value, ..*g }));
            value = network.push(&node.name, node.op.clone(), &[value], node.activation)?;
        }
        let grids = QuantizedNetwork {
            layers: Vec::new(),
            activations,
        };
        Ok(Self { network, grids })
    }
}

fn trace(
    runner: &mut dyn Runner,
    quantized: &QuantizedNetwork,
    input: &Batch,
) -> Result<Vec<Batch<f64>>, EngineError> {
    let grids = QuantizedNetwork {
        // The network's weights are dequantized already.
        layers: Vec::new(),
        activations: quantized.activations.clone(),
    };
    let variant = runner.load(&grids)?;
    runner.trace(input, Some(&variant))
}

fn narrow(values: &Batch<f64>) -> Batch {
    Batch {
        shape: values.shape,
        data: values.data.iter().map(|&x| x as f32).collect(),
    }
}

/// Index of the largest value, the first on ties; `None` where there is a NaN.
fn largest(values: &[f64]) -> Option<usize> {
    if values.iter().any(|x| x.is_nan()) {
        return None;
    }
    (0..values.len()).reduce(|best, i| if values[i] > values[best] { i } else { best })
}
