//! The [`Runner`] of the CPU engine: images in parallel as long as there is one for every thread, then
//! the remaining ones one by one with their layers split.

use rayon::prelude::*;

use super::CpuEngine;
use super::buffers::Buffers;
use super::distribution::distribution;
use super::exact::ExactPass;
use super::model::{Base, Model, Pass, Values};
use super::real::Real;
use super::reduce::reduce;
use super::sample::SamplePass;
use super::split::Split;
use crate::engine::sample::{check_activations, check_network, check_radius, drifting};
use crate::engine::{
    Comparison, Distribution, EngineError, Exact, Isolated, Runner, SampleBound, TapStats,
    VariantId, check_bins, layer_of,
};
use crate::network::{Network, Tap};
use crate::quant::QuantizedNetwork;
use crate::tensor::Batch;
use crate::tensor::histogram::Bins;

/// One network on the CPU.
pub struct CpuRunner<'a, T> {
    engine: &'a CpuEngine<T>,
    pub(super) network: &'a Network,
    taps: Vec<Tap>,
    last_uses: Vec<Option<usize>>,
    /// Free buffers of each thread.
    buffers: Vec<Buffers<T>>,
    pub(super) reference: Model<T>,
    variants: Vec<Option<Model<T>>>,
    images: Vec<Reference<T>>,
    max_batch: usize,
}

/// One image of the current batch.
#[derive(Default)]
struct Reference<T> {
    input: Vec<T>,
    /// The full-precision values of all nodes.
    values: Values<T>,
}

impl<'a, T: Real> CpuRunner<'a, T> {
    /// Converts the weights once.
    pub fn new(engine: &'a CpuEngine<T>, network: &'a Network) -> Self {
        let taps = network.taps();
        let last_uses = network.last_uses();
        let stored: usize = network.nodes.iter().map(|n| n.shape.len()).sum();
        let working = engine.threads() * peak(network, &last_uses);
        let room = (engine.budget / size_of::<T>()).saturating_sub(working);
        Self {
            engine,
            network,
            last_uses,
            buffers: (0..engine.threads()).map(|_| Buffers::default()).collect(),
            reference: Model::new(network),
            variants: Vec::new(),
            images: Vec::new(),
            max_batch: (room / (stored + network.input.len()).max(1)).max(1),
            taps,
        }
    }

    /// By value: true for the output.
    fn output_only(&self) -> Vec<bool> {
        let nodes = self.network.nodes.len();
        (0..=nodes).map(|v| v == nodes).collect()
    }

    /// By value: true.
    pub(super) fn everything(&self) -> Vec<bool> {
        vec![true; self.network.nodes.len() + 1]
    }

    /// The batch of the last reference pass.
    fn current(&self) -> Result<Vec<&Reference<T>>, EngineError> {
        if self.images.is_empty() {
            return Err(EngineError::Usage(
                "nothing to compare with: run the reference on a batch first".into(),
            ));
        }
        Ok(self.images.iter().collect())
    }

    pub(super) fn pass<'p>(
        &'p self,
        model: &'p Model<T>,
        keep: &'p [bool],
        split: Split,
    ) -> Pass<'p, T> {
        let thread = rayon::current_thread_index().unwrap_or_default();
        Pass {
            network: self.network,
            model,
            last_uses: &self.last_uses,
            keep,
            base: None,
            split,
            buffers: &self.buffers[thread % self.buffers.len()],
        }
    }

    /// Calls `f` for each item, on the engine's threads.
    pub(super) fn each<I: Send, R: Send>(
        &self,
        items: &mut [I],
        f: impl Fn(usize, &mut I, Split) -> R + Sync + Send,
    ) -> Vec<R> {
        let threads = self.engine.threads();
        self.engine.install(|| {
            let (many, few) = items.split_at_mut(items.len() / threads * threads);
            let done = many.len();
            let serial = |(i, item): (usize, &mut I)| f(i, item, Split::Serial);
            let mut results: Vec<R> = match threads {
                1 => many.iter_mut().enumerate().map(serial).collect(),
                _ => {
                    let images = many.par_iter_mut().enumerate();
                    images.with_max_len(1).map(serial).collect()
                }
            };
            for (i, item) in few.iter_mut().enumerate() {
                results.push(f(done + i, item, Split::Parallel));
            }
            results
        })
    }

    pub(super) fn check(&self, input: &Batch) -> Result<(), EngineError> {
        if input.shape == self.network.input {
            return Ok(());
        }
        Err(EngineError::Usage(format!(
            "{} takes images of shape {}, got {}",
            self.network.name, self.network.input, input.shape
        )))
    }

    pub(super) fn variant(&self, variant: VariantId) -> Result<&Model<T>, EngineError> {
        let model = self.variants.get(variant.0).and_then(Option::as_ref);
        model.ok_or_else(|| EngineError::Usage(format!("variant {} is not loaded", variant.0)))
    }
}

impl<T: Real> Runner for CpuRunner<'_, T> {
    fn max_batch(&self) -> usize {
        self.max_batch
    }

    fn load_variant(&mut self, variant: &QuantizedNetwork) -> Result<VariantId, EngineError> {
        let model = self
            .reference
            .variant(self.network, variant)
            .map_err(|(node, problem)| EngineError::Usage(format!("node {node}: {problem}")))?;
        self.variants.push(Some(model));
        Ok(VariantId(self.variants.len() - 1))
    }

    fn drop_variant(&mut self, variant: VariantId) {
        if let Some(slot) = self.variants.get_mut(variant.0) {
            *slot = None;
        }
    }

    fn reference(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        self.check(input)?;
        let mut images = std::mem::take(&mut self.images);
        images.resize_with(input.images(), Reference::default);
        let keep = self.everything();
        let outputs = self.each(&mut images, |i, image, split| {
            image.input.clear();
            image
                .input
                .extend(input.image(i).iter().map(|&x| T::from(x)));
            self.pass(&self.reference, &keep, split).run(
                &image.input,
                &mut image.values,
                |_, _| (),
            );
            output(&image.input, &image.values)
        });
        self.images = images;
        Ok(outputs)
    }

    fn compare(&mut self, variant: VariantId) -> Result<Comparison, EngineError> {
        let model = self.variant(variant)?;
        let mut images = self.current()?;
        let keep = self.output_only();
        let mut tap_of = vec![None; self.network.nodes.len()];
        for (i, tap) in self.taps.iter().enumerate() {
            tap_of[tap.node] = Some(i);
        }
        let results = self.each(&mut images, |_, image, split| {
            let mut stats = vec![TapStats::default(); self.taps.len()];
            let mut values = Values::default();
            let pass = self.pass(model, &keep, split);
            pass.run(&image.input, &mut values, |node, value| {
                if let Some(tap) = tap_of[node] {
                    stats[tap] = reduce(&image.values.0[node + 1], value, split);
                }
            });
            let result = output(&image.input, &values);
            values.0.into_iter().for_each(|v| pass.buffers.give(v));
            (stats, result)
        });
        let (stats, outputs) = results.into_iter().unzip();
        Ok(Comparison { stats, outputs })
    }

    fn exact(&mut self, variant: VariantId) -> Result<Vec<Vec<Exact>>, EngineError> {
        let model = self.variant(variant)?;
        let mut images = self.current()?;
        check_network(self.network)?;
        check_activations(model.quantizes_activations())?;
        Ok(self.each(&mut images, |_, image, split| {
            let pass = ExactPass {
                pass: self.pass(&self.reference, &[], split),
                variant: model,
                taps: &self.taps,
            };
            pass.run(&image.input)
        }))
    }

    fn sample_bound(
        &mut self,
        variant: VariantId,
        radius: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        check_radius(radius)?;
        let model = self.variant(variant)?;
        let mut images = self.current()?;
        check_network(self.network)?;
        check_activations(model.quantizes_activations())?;
        let drifts = drifting(self.network, |i| {
            let params = self.reference.params(i).zip(model.params(i));
            params.is_some_and(|(a, b)| a.weight != b.weight || a.bias != b.bias)
        });
        Ok(self.each(&mut images, |_, image, split| {
            let pass = SamplePass {
                pass: self.pass(&self.reference, &[], split),
                variant: model,
                drifts: &drifts,
                radius,
            };
            let bounds = pass.run(&image.input);
            self.taps.iter().map(|t| bounds[t.node]).collect()
        }))
    }

    fn distributions(
        &mut self,
        variant: Option<VariantId>,
        bins: Option<&[Bins]>,
    ) -> Result<Vec<Distribution>, EngineError> {
        let model = match variant {
            None => &self.reference,
            Some(variant) => self.variant(variant)?,
        };
        let mut images = self.current()?;
        check_bins(bins, self.network)?;
        let keep = self.output_only();
        let nodes = &self.network.nodes;
        let results = self.each(&mut images, |_, image, split| {
            let mut found = vec![Distribution::default(); nodes.len()];
            let mut values = Values::default();
            let pass = self.pass(model, &keep, split);
            pass.run(&image.input, &mut values, |node, value| {
                let reference = &image.values.0[node + 1];
                let bins = bins.map(|b| &b[node]);
                found[node] = distribution(value, reference, nodes[node].shape, bins, split);
            });
            values.0.into_iter().for_each(|v| pass.buffers.give(v));
            found
        });
        let mut all = vec![Distribution::default(); nodes.len()];
        for image in &results {
            for (all, one) in all.iter_mut().zip(image) {
                all.merge(one);
            }
        }
        Ok(all)
    }

    fn isolated(&mut self, variant: VariantId, tap: usize) -> Result<Isolated, EngineError> {
        let layer = layer_of(self.network, tap)?;
        let model = self.reference.with_node_of(self.variant(variant)?, layer);
        let mut images = self.current()?;
        let (keep, run) = (self.output_only(), self.network.downstream(layer));
        let last = self.network.nodes.len() - 1;
        let results = self.each(&mut images, |_, image, split| {
            let mut pass = self.pass(&model, &keep, split);
            pass.base = Some(Base {
                values: &image.values,
                run: &run,
            });
            let mut values = Values::default();
            let (mut at_layer, mut at_output) = (TapStats::default(), None);
            let mut layers_run = 0;
            pass.run(&image.input, &mut values, |node, value| {
                layers_run += usize::from(self.network.nodes[node].is_layer());
                let against = || reduce(&image.values.0[node + 1], value, split);
                if node == layer {
                    at_layer = against();
                }
                if node == last {
                    at_output = Some(against());
                }
            });
            // An output that the layer does not reach is the reference's own.
            let (at_output, outputs) = match at_output {
                Some(stats) => (stats, output(&image.input, &values)),
                None => {
                    let own = &image.values.0[last + 1];
                    (reduce(own, own, split), output(&image.input, &image.values))
                }
            };
            values.0.into_iter().for_each(|v| pass.buffers.give(v));
            (at_layer, at_output, outputs, layers_run)
        });
        let mut isolated = Isolated {
            at_layer: Vec::new(),
            at_output: Vec::new(),
            outputs: Vec::new(),
            layers_run: 0,
        };
        for (at_layer, at_output, outputs, layers_run) in results {
            isolated.at_layer.push(at_layer);
            isolated.at_output.push(at_output);
            isolated.outputs.push(outputs);
            isolated.layers_run = layers_run;
        }
        Ok(isolated)
    }

    fn trace(
        &mut self,
        input: &Batch,
        variant: Option<VariantId>,
    ) -> Result<Vec<Batch<f64>>, EngineError> {
        self.check(input)?;
        let model = match variant {
            None => &self.reference,
            Some(variant) => self.variant(variant)?,
        };
        let keep = self.everything();
        let mut values: Vec<Values<T>> = Vec::new();
        values.resize_with(input.images(), Values::default);
        self.each(&mut values, |i, values, split| {
            let image: Vec<T> = input.image(i).iter().map(|&x| T::from(x)).collect();
            self.pass(model, &keep, split)
                .run(&image, values, |_, _| ());
        });
        let node = |i: usize| Batch {
            shape: self.network.nodes[i].shape,
            data: values
                .iter()
                .flat_map(|v| v.0[i + 1].iter().map(|&x| x.into()))
                .collect(),
        };
        Ok((0..self.network.nodes.len()).map(node).collect())
    }
}

/// The output, in f32; a network without nodes gives its input back.
fn output<T: Real>(input: &[T], values: &Values<T>) -> Vec<f32> {
    let last = match values.0.len() {
        0 | 1 => input,
        n => &values.0[n - 1],
    };
    last.iter().map(|x| x.narrow()).collect()
}

/// Most elements alive at one time in a pass that keeps nothing.
fn peak(network: &Network, last_uses: &[Option<usize>]) -> usize {
    let (mut alive, mut peak) = (0, 0);
    for (i, node) in network.nodes.iter().enumerate() {
        alive += node.shape.len();
        peak = peak.max(alive);
        let mut dead: Vec<usize> = node.inputs.iter().copied().filter(|&v| v > 0).collect();
        dead.sort_unstable();
        dead.dedup();
        for v in dead.into_iter().filter(|&v| last_uses[v] == Some(i)) {
            alive -= network.shape(v).len();
        }
        if last_uses[i + 1].is_none() {
            alive -= node.shape.len();
        }
    }
    peak
}
