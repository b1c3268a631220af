//! The [`Runner`] of the CPU engine: images in parallel as long as there is one for every thread, then
//! the remaining ones one by one with their layers split.

use rayon::prelude::*;

use super::CpuEngine;
use super::buffers::Buffers;
use super::distribution::distribution;
use super::model::{Model, Pass, Values};
use super::real::Real;
use super::reduce::reduce;
use super::sample::SamplePass;
use super::split::Split;
use crate::engine::sample::{check_radius, drifting};
use crate::engine::{
    Comparison, Distribution, EngineError, Runner, SampleBound, TapStats, VariantId, check_bins,
};
use crate::network::{Network, Tap};
use crate::quant::QuantizedNetwork;
use crate::tensor::Batch;
use crate::tensor::histogram::Bins;

/// One network on the CPU.
pub struct CpuRunner<'a, T> {
    engine: &'a CpuEngine<T>,
    network: &'a Network,
    taps: Vec<Tap>,
    last_uses: Vec<Option<usize>>,
    /// Free buffers of each thread.
    buffers: Vec<Buffers<T>>,
    reference: Model<T>,
    variants: Vec<Option<Model<T>>>,
    images: Vec<Reference<T>>,
    max_batch: usize,
}

/// One image of the current batch.
#[derive(Default)]
struct Reference<T> {
    input: Vec<T>,
    /// The taps' full-precision values.
    values: Values<T>,
}

/// Values that outlive a pass.
#[derive(Clone, Copy)]
enum Keep {
    Output,
    Taps,
    All,
}

impl<'a, T: Real> CpuRunner<'a, T> {
    /// Converts the weights once.
    pub fn new(engine: &'a CpuEngine<T>, network: &'a Network) -> Self {
        let taps = network.taps();
        let last_uses = network.last_uses();
        let stored: usize = taps.iter().map(|t| network.nodes[t.node].shape.len()).sum();
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

    fn keep(&self, keep: Keep) -> Vec<bool> {
        let mut kept = vec![matches!(keep, Keep::All); self.network.nodes.len() + 1];
        if let Some(output) = kept.last_mut() {
            *output = true;
        }
        if let Keep::Taps = keep {
            for tap in &self.taps {
                kept[tap.node + 1] = true;
            }
        }
        kept
    }

    fn pass<'p>(&'p self, model: &'p Model<T>, keep: &'p [bool], split: Split) -> Pass<'p, T> {
        let thread = rayon::current_thread_index().unwrap_or_default();
        Pass {
            network: self.network,
            model,
            last_uses: &self.last_uses,
            keep,
            split,
            buffers: &self.buffers[thread % self.buffers.len()],
        }
    }

    /// Calls `f` for each item, on the engine's threads.
    fn each<I: Send, R: Send>(
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

    fn check(&self, input: &Batch) -> Result<(), EngineError> {
        if input.shape == self.network.input {
            return Ok(());
        }
        Err(EngineError::Usage(format!(
            "{} takes images of shape {}, got {}",
            self.network.name, self.network.input, input.shape
        )))
    }

    fn check_images(&self) -> Result<(), EngineError> {
        match self.images.is_empty() {
            true => Err(EngineError::Usage(
                "nothing to compare with: run the reference on a batch first".into(),
            )),
            false => Ok(()),
        }
    }

    fn variant(&self, variant: VariantId) -> Result<&Model<T>, EngineError> {
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
        let keep = self.keep(Keep::Taps);
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
        self.check_images()?;
        let keep = self.keep(Keep::Output);
        let mut tap_of = vec![None; self.network.nodes.len()];
        for (i, tap) in self.taps.iter().enumerate() {
            tap_of[tap.node] = Some(i);
        }
        let mut images: Vec<&Reference<T>> = self.images.iter().collect();
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

    fn distributions(
        &mut self,
        variant: Option<VariantId>,
        bins: Option<&[Bins]>,
    ) -> Result<Vec<Distribution>, EngineError> {
        let model = match variant {
            None => &self.reference,
            Some(variant) => self.variant(variant)?,
        };
        self.check_images()?;
        check_bins(bins, self.network)?;
        let keep = self.keep(Keep::Output);
        let nodes = &self.network.nodes;
        let mut kept = vec![false; nodes.len()];
        self.taps.iter().for_each(|t| kept[t.node] = true);
        let mut images: Vec<&Reference<T>> = self.images.iter().collect();
        let results = self.each(&mut images, |_, image, split| {
            let mut found = vec![Distribution::default(); nodes.len()];
            let mut values = Values::default();
            let pass = self.pass(model, &keep, split);
            pass.run(&image.input, &mut values, |node, value| {
                let reference = kept[node].then(|| &*image.values.0[node + 1]);
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

    fn sample_bound(
        &mut self,
        variant: VariantId,
        radius: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        check_radius(radius)?;
        let model = self.variant(variant)?;
        if self.images.is_empty() {
            return Err(EngineError::Usage(
                "no activations to bound from: run the reference on a batch first".into(),
            ));
        }
        if model.rounds_activations() {
            return Err(EngineError::Usage(
                "the variant's activations are quantized, and bounds on weights do not apply to it"
                    .into(),
            ));
        }
        let drifts = drifting(self.network, |i| {
            let params = self.reference.params(i).zip(model.params(i));
            params.is_some_and(|(a, b)| a.weight != b.weight || a.bias != b.bias)
        });
        let mut images: Vec<&Reference<T>> = self.images.iter().collect();
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
        let keep = self.keep(Keep::All);
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
