//! Two networks of one skeleton, node by node on the same images: what each node of the second does to the first's values
//! (isolated), how far the values are apart (accumulated), and what of it the second's own grids do not account for.

mod alone;
mod apart;
mod file;

use std::collections::HashSet;

use alone::{Alone, Running, before, rounded, way};
pub use apart::Apart;
pub use file::File;

use super::error::SweepError;
use crate::engine::{Engine, EngineError, Runner};
use crate::network::skeleton::{Pair, Pairing, pair};
use crate::network::{INPUT, NetworkError, ValueId};
use crate::quant::QuantizedNetwork;
use crate::tensor::{Batch, Shape};

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
    /// The channel whose isolated difference is the largest multiple of what rounding to nearest makes of it, and the
    /// multiple; none where the second network has no grids.
    pub beside_grid: Option<(usize, f64)>,
}

/// What tells which layer is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worst {
    /// Its error alone is the largest multiple of what its grids make of it.
    Grid,
    /// Its error alone is the largest share of its values, in one channel.
    Channel,
    /// Its signal to noise in the network is the smallest.
    Sqnr,
}

/// Two networks on the same images.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The layers, the worst first: beside grids where the second network has some, by channel elsewhere.
    pub layers: Vec<Compared>,
    /// Of the outputs.
    pub output: Apart,
    /// Images.
    pub images: usize,
    /// Images whose largest output is the same.
    pub top1_agree: usize,
}

impl Comparison {
    /// Sorts the layers, the worst first: before all others those that make values which are no numbers of the first network's.
    pub fn sort(&mut self, by: Worst) {
        let share = |c: &Compared| c.isolated.worst_channel().1;
        let times = |c: &Compared| c.beside_grid.map_or(0.0, |(_, times)| times);
        let broken = |c: &Compared| match by {
            Worst::Sqnr => c.accumulated.non_finite > 0,
            _ => c.isolated.non_finite > 0,
        };
        self.layers.sort_by(|x, y| {
            let worse = match by {
                Worst::Grid => (times(y).total_cmp(&times(x))).then(share(y).total_cmp(&share(x))),
                Worst::Channel => share(y).total_cmp(&share(x)),
                Worst::Sqnr => (x.accumulated.sqnr_db()).total_cmp(&y.accumulated.sqnr_db()),
            };
            broken(y).cmp(&broken(x)).then(worse)
        });
    }
}

/// A layer in three forms that read the same values, those of the first network.
struct Forms {
    /// The second network's, with its grids on the values that it reads and makes.
    second: Alone,
    /// The first network's with weights rounded to the second's steps; none where the second network has no grids.
    rounded: Option<Alone>,
    /// Steps of the second network's grids on the values that are read, and made: of all channels, or of each.
    steps: [Vec<Vec<f64>>; 2],
}

impl Forms {
    fn new(
        a: &File,
        b: &File,
        pairing: &Pairing,
        pair: &Pair,
        [end_a, end_b]: [ValueId; 2],
        ends: &HashSet<ValueId>,
    ) -> Result<Self, NetworkError> {
        let input = a.network().shape(a.network().nodes[pair.a].inputs[0]);
        let before = before(b, &pairing.b, pairing.read_of_b(pair, 0), ends);
        let way_b = way(b, pair.b, end_b);
        let steps = [b.grid_steps(&before), b.grid_steps(&way_b)];
        let all = [before, way_b].concat();
        let rounded = b.has_grids().then(|| {
            let op = rounded(a.network(), pair.a, b, pair.b);
            Alone::new(a, &way(a, pair.a, end_a), input, op)
        });
        Ok(Self {
            second: Alone::new(b, &all, input, None)?,
            rounded: rounded.transpose()?,
            steps,
        })
    }

    fn on<'e>(&'e self, engine: &'e dyn Engine) -> Result<Measured<'e>, EngineError> {
        let rounded = self.rounded.as_ref().map(|alone| alone.on(engine));
        Ok(Measured {
            forms: self,
            second: self.second.on(engine)?,
            rounded: rounded.transpose()?,
            beside: Apart::default(),
        })
    }
}

/// Such forms on an engine.
struct Measured<'e> {
    forms: &'e Forms,
    second: Running<'e>,
    rounded: Option<Running<'e>>,
    /// What rounding alone does.
    beside: Apart,
}

impl Measured<'_> {
    /// Adds what the forms make of an input, of which the first network makes `x`.
    fn add(
        &mut self,
        isolated: &mut Apart,
        input: Batch,
        x: &Batch<f64>,
    ) -> Result<(), EngineError> {
        if let Some(own) = self.second.output(&input)? {
            isolated.add(&x.data, &own.data, x.shape);
        }
        let Some(rounded) = &mut self.rounded else {
            return Ok(());
        };
        let [read, made] = &self.forms.steps;
        let mut input = input;
        let channel = |shape: Shape, i: usize| i / shape.pixels() % shape.c;
        for steps in read {
            for (i, v) in input.data.iter_mut().enumerate() {
                *v = to_nearest(f64::from(*v), step(steps, channel(input.shape, i))) as f32;
            }
        }
        if let Some(mut own) = rounded.output(&input)? {
            for steps in made {
                for (i, y) in own.data.iter_mut().enumerate() {
                    *y = to_nearest(*y, step(steps, channel(x.shape, i)));
                }
            }
            self.beside.add(&x.data, &own.data, x.shape);
        }
        Ok(())
    }

    /// The channel that is the largest multiple off, and the multiple.
    fn times(&self, isolated: &Apart) -> Option<(usize, f64)> {
        self.rounded.as_ref()?;
        let made = &self.forms.steps[1];
        let widest = |c| made.iter().map(|steps| step(steps, c)).fold(0.0, f64::max);
        Some(isolated.beside(&self.beside, widest))
    }
}

/// The step of a channel.
fn step(steps: &[f64], channel: usize) -> f64 {
    steps[channel % steps.len()]
}

fn to_nearest(x: f64, step: f64) -> f64 {
    (x / step).round_ties_even() * step
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
    let places: Vec<[ValueId; 2]> = layers.iter().map(|p| place(a, &pairing, p)).collect();
    let ends = places.iter().map(|p| p[1]).collect();
    let mut compared: Vec<Compared> = layers
        .iter()
        .zip(&places)
        .map(|(&pair, &[x, y])| Compared {
            pair: pair.clone(),
            tensors: [a.tensor(x), b.tensor(y)],
            isolated: Apart::default(),
            accumulated: Apart::default(),
            beside_grid: None,
        })
        .collect();
    let forms: Result<Vec<Forms>, NetworkError> = layers
        .iter()
        .zip(&places)
        .map(|(p, &place)| Forms::new(a, b, &pairing, p, place, &ends))
        .collect();
    let forms = forms?;
    let measured: Result<Vec<Measured>, EngineError> = forms.iter().map(|f| f.on(engine)).collect();
    let mut measured = measured?;
    let (mut output, mut images, mut top1_agree) = (Apart::default(), 0, 0);
    let (mut first, mut second) = (engine.prepare(a.network())?, engine.prepare(b.network())?);
    for batch in batches {
        let batch = batch?;
        let of_a = trace(first.as_mut(), &a.quantized, &batch)?;
        let of_b = trace(second.as_mut(), &b.quantized, &batch)?;
        let at =
            |all: &'_ [Batch<f64>], v: ValueId| v.checked_sub(1).and_then(|i| all.get(i).cloned());
        for (i, c) in compared.iter_mut().enumerate() {
            let (Some(x), Some(y)) = (at(&of_a, places[i][0]), at(&of_b, places[i][1])) else {
                continue;
            };
            c.accumulated.add(&x.data, &y.data, x.shape);
            let input = match a.network().nodes[c.pair.a].inputs[0] {
                INPUT => batch.clone(),
                v => narrow(&of_a[v - 1]),
            };
            measured[i].add(&mut c.isolated, input, &x)?;
        }
        if let (Some(x), Some(y)) = (of_a.last(), of_b.last()) {
            output.add(&x.data, &y.data, x.shape);
            for i in 0..batch.images() {
                top1_agree += usize::from(largest(x.image(i)) == largest(y.image(i)));
            }
        }
        images += batch.images();
    }
    for (c, m) in compared.iter_mut().zip(&measured) {
        c.beside_grid = m.times(&c.isolated);
    }
    let mut found = Comparison {
        layers: compared,
        output,
        images,
        top1_agree,
    };
    found.sort(match b.has_grids() {
        true => Worst::Grid,
        false => Worst::Channel,
    });
    Ok(found)
}

/// The values that two matched nodes end in: those that the first reader of the first one takes, or the outputs.
fn place(a: &File, pairing: &Pairing, of: &Pair) -> [ValueId; 2] {
    for p in &pairing.pairs {
        for (k, &v) in a.network().nodes[p.a].inputs.iter().enumerate() {
            if pairing.a[v].core == Some(of.a) {
                return [v, pairing.read_of_b(p, k)];
            }
        }
    }
    [pairing.a.len() - 1, pairing.b.len() - 1]
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
