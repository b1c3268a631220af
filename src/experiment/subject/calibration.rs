//! Calibration images run through an engine: what each layer reads in full precision and in the partly
//! quantized network.
//!
//! A walk evaluates every node once in each network and keeps the values that later nodes still read, for all
//! images at once: memory for two networks' largest live set times the number of images.

use std::collections::HashMap;
use std::rc::Rc;

use super::sensitivity;
use crate::bounds::Domain;
use crate::engine::{Distribution, Engine, EngineError, Reductions};
use crate::network::{Activation, INPUT, Network, NetworkError, Node, Op};
use crate::quant::mixed::Sensitivity;
use crate::quant::{
    Calibration, LayerInputs, Observed, QuantError, QuantizedLayer, QuantizedNetwork, Walk,
};
use crate::tensor::Batch;
use crate::tensor::histogram::Bins;

/// Calibration images and the engine they run on.
pub struct ImageCalibration<'e> {
    engine: &'e dyn Engine,
    images: Batch,
    domain: Domain,
}

impl<'e> ImageCalibration<'e> {
    /// Normalized images, NCHW. Bounds speak of the box around them unless told of a larger one.
    pub fn new(engine: &'e dyn Engine, images: Batch) -> Self {
        let ends = |c: usize| {
            let pixels = images.shape.pixels();
            let channel = move |image: &'_ [f32]| image[c * pixels..(c + 1) * pixels].to_vec();
            let values = images.data.chunks(images.shape.len()).flat_map(channel);
            values.fold((0.0f64, 0.0f64), |(lo, hi), x| {
                (lo.min(f64::from(x)), hi.max(f64::from(x)))
            })
        };
        let (lo, hi) = (0..images.shape.c).map(ends).unzip();
        Self {
            engine,
            images,
            domain: Domain { lo, hi },
        }
    }

    /// The images.
    pub fn images(&self) -> &Batch {
        &self.images
    }

    /// The same with bounds over all of a domain.
    pub fn with_domain(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }
}

impl Calibration for ImageCalibration<'_> {
    fn walk<'a>(&'a self, network: &'a Network) -> Result<Box<dyn Walk + 'a>, QuantError> {
        self.check(network)?;
        let input = Rc::new(self.images.clone());
        let mut values = vec![None; network.nodes.len() + 1];
        values[INPUT] = Some(Pair {
            full: input.clone(),
            quantized: input,
        });
        Ok(Box::new(EngineWalk {
            engine: self.engine,
            network,
            last_uses: network.last_uses(),
            values,
            next: 0,
            replaced: HashMap::new(),
        }))
    }

    fn observe(&self, network: &Network, most_bins: usize) -> Result<Vec<Observed>, QuantError> {
        self.check(network)?;
        let (bins, seen) = observe(self.engine, network, &self.images, most_bins).map_err(|e| {
            QuantError::Calibration {
                layer: network.name.clone(),
                problem: e.to_string(),
            }
        })?;
        let nodes = bins.iter().zip(&seen);
        let observed = nodes.map(|(&bins, seen)| {
            let layer = seen.layer();
            let end = |x| if layer.is_sound() { x } else { f64::NAN };
            Observed {
                min: end(layer.min),
                max: end(layer.max),
                histogram: seen.histogram(bins),
            }
        });
        Ok(observed.collect())
    }

    fn sensitivities(
        &self,
        network: &Network,
        variants: &[QuantizedLayer],
        by: Sensitivity,
    ) -> Result<Vec<f64>, QuantError> {
        let failed = |problem: String| QuantError::Calibration {
            layer: network.name.clone(),
            problem,
        };
        match by {
            Sensitivity::Measured => {
                sensitivity::measured(self.engine, network, &self.images, variants)
                    .map_err(|e| failed(e.to_string()))
            }
            Sensitivity::Bound => sensitivity::bounded(network, &self.domain, variants)
                .map_err(|e| failed(e.to_string())),
            Sensitivity::Tails => sensitivity::tails(self.engine, network, &self.images, variants)
                .map_err(|e| failed(e.to_string())),
            Sensitivity::Local => {
                let mut walk = self.walk(network)?;
                sensitivity::local(self.engine, network, walk.as_mut(), variants)
            }
        }
    }
}

impl ImageCalibration<'_> {
    fn check(&self, network: &Network) -> Result<(), QuantError> {
        if self.images.shape == network.input && self.images.images() > 0 {
            return Ok(());
        }
        Err(QuantError::Calibration {
            layer: network.name.clone(),
            problem: format!(
                "{} images of shape {}, expected at least one of shape {}",
                self.images.images(),
                self.images.shape,
                network.input
            ),
        })
    }
}

/// How a network's node outputs are distributed over images, in full precision: ranges first, then counts in bins over
/// those ranges, so that the images may come in any number of batches.
pub fn observe(
    engine: &dyn Engine,
    network: &Network,
    images: &Batch,
    most_bins: usize,
) -> Result<(Vec<Bins>, Vec<Distribution>), EngineError> {
    let mut runner = engine.prepare(network)?;
    // A variant without layers is the full-precision network.
    let full = runner.load(&QuantizedNetwork::default())?;
    let mut pass = |bins: Option<&[Bins]>| {
        let mut all = vec![Distribution::default(); network.nodes.len()];
        let size = runner.max_batch().max(1) * images.shape.len();
        for part in images.data.chunks(size) {
            runner.reference(&Batch {
                shape: images.shape,
                data: part.to_vec(),
            })?;
            for found in runner.run(&[&full], &Reductions::distributions(bins))? {
                let one = found.distributions.iter();
                all.iter_mut()
                    .zip(one)
                    .for_each(|(all, one)| all.merge(one));
            }
        }
        Ok(all)
    };
    let ranges: Vec<Distribution> = pass(None)?;
    let bins: Vec<Bins> = ranges.iter().map(|d| d.bins(most_bins)).collect();
    let counted = pass(Some(&bins))?;
    Ok((bins, counted))
}

/// A value in both networks; one allocation as long as they agree.
#[derive(Clone)]
struct Pair {
    full: Rc<Batch>,
    quantized: Rc<Batch>,
}

struct EngineWalk<'a> {
    engine: &'a dyn Engine,
    network: &'a Network,
    last_uses: Vec<Option<usize>>,
    /// By value, as long as a node to come reads it.
    values: Vec<Option<Pair>>,
    /// The node to be evaluated next.
    next: usize,
    replaced: HashMap<usize, Node>,
}

impl Walk for EngineWalk<'_> {
    fn inputs(&mut self, node: usize) -> Result<LayerInputs<'_>, QuantError> {
        let network = self.network;
        let wrong = |problem: String| QuantError::Calibration {
            layer: network
                .nodes
                .get(node)
                .map_or(node.to_string(), |n| n.name.clone()),
            problem,
        };
        while self.next < node.min(network.nodes.len()) {
            self.step().map_err(|e| QuantError::Calibration {
                layer: network.nodes[self.next].name.clone(),
                problem: e.to_string(),
            })?;
        }
        let value = network.nodes.get(node).map(|n| n.inputs[0]);
        let passed = || wrong("the walk has passed it; layers come in topological order".into());
        match value.and_then(|v| self.values[v].as_ref()) {
            Some(pair) if self.next == node => Ok(LayerInputs {
                full: &pair.full,
                quantized: &pair.quantized,
            }),
            _ => Err(passed()),
        }
    }

    fn set(&mut self, layer: &QuantizedLayer) {
        let mut node = self.network.nodes[layer.node].clone();
        layer.apply_to(&mut node);
        self.replaced.insert(layer.node, node);
    }
}

impl EngineWalk<'_> {
    /// Evaluates the next node in both networks and forgets what nobody reads any more.
    fn step(&mut self) -> Result<(), StepError> {
        let at = self.next;
        let node = &self.network.nodes[at];
        let inputs: Vec<Pair> = node
            .inputs
            .iter()
            .filter_map(|&v| self.values[v].clone())
            .collect();
        let full: Vec<&Batch> = inputs.iter().map(|p| &*p.full).collect();
        let own: Vec<&Batch> = inputs.iter().map(|p| &*p.quantized).collect();
        let result = Rc::new(self.evaluate(node, &full)?);
        let replaced = self.replaced.remove(&at);
        let same = replaced.is_none() && inputs.iter().all(|p| Rc::ptr_eq(&p.full, &p.quantized));
        let quantized = match same {
            true => result.clone(),
            false => Rc::new(self.evaluate(replaced.as_ref().unwrap_or(node), &own)?),
        };
        self.values[at + 1] = Some(Pair {
            full: result,
            quantized,
        });
        for &v in node.inputs.iter().chain([&(at + 1)]) {
            if self.last_uses[v].is_none_or(|last| last <= at) {
                self.values[v] = None;
            }
        }
        self.next += 1;
        Ok(())
    }

    fn evaluate(&self, node: &Node, inputs: &[&Batch]) -> Result<Batch, StepError> {
        let input = inputs[0];
        match node.op {
            Op::Add => {
                let mut sum = input.clone();
                for other in &inputs[1..] {
                    for (s, &x) in sum.data.iter_mut().zip(&other.data) {
                        *s += x;
                    }
                }
                activate(node.activation, &mut sum.data);
                return Ok(sum);
            }
            Op::Concat => {
                let images = 0..input.images();
                let maps = images.flat_map(|i| inputs.iter().map(move |b| b.image(i)));
                let mut data = maps.collect::<Vec<_>>().concat();
                activate(node.activation, &mut data);
                return Ok(Batch {
                    shape: node.shape,
                    data,
                });
            }
            Op::Product => {
                let mut data = Vec::with_capacity(input.data.len());
                for i in 0..input.images() {
                    let (x, factors) = (input.image(i), inputs[1].image(i));
                    let each = x.len() / factors.len().max(1);
                    data.extend(
                        x.iter()
                            .enumerate()
                            .map(|(k, x)| x * factors[k / each.max(1)]),
                    );
                }
                activate(node.activation, &mut data);
                return Ok(Batch {
                    shape: node.shape,
                    data,
                });
            }
            _ => {}
        }
        let mut alone = Network::new(&node.name, input.shape);
        alone.push(&node.name, node.op.clone(), &[INPUT], node.activation)?;
        let mut runner = self.engine.prepare(&alone)?;
        let mut data = Vec::with_capacity(input.images() * node.shape.len());
        for part in input
            .data
            .chunks(runner.max_batch().max(1) * input.shape.len())
        {
            let part = Batch {
                shape: input.shape,
                data: part.to_vec(),
            };
            for output in runner.reference(&part)? {
                data.extend(output);
            }
        }
        Ok(Batch {
            shape: node.shape,
            data,
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

fn activate(activation: Activation, values: &mut [f32]) {
    // Comparisons, not `max` and `min`: those swallow NaN.
    let relu = |x: f32| if x < 0.0 { 0.0 } else { x };
    match activation {
        Activation::Identity => {}
        Activation::Relu => values.iter_mut().for_each(|x| *x = relu(*x)),
        Activation::Relu6 => values.iter_mut().for_each(|x| {
            let y = relu(*x);
            *x = if y > 6.0 { 6.0 } else { y };
        }),
    }
}
