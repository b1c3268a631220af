//! The [`Runner`] of the CPU engine: images in parallel as long as there is one for every thread, then
//! the remaining ones one by one with their layers split.

use std::borrow::Cow;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::CpuEngine;
use super::buffers::Buffers;
use super::centred::CentredPass;
use super::distribution::distribution;
use super::exact::ExactPass;
use super::model::{Base, Model, Pass, Values, summed};
use super::needs::Needs;
use super::real::Real;
use super::reduce::{Known, reduce};
use super::sample::{Dice, Image, SamplePass};
use super::split::Split;
use super::team;
use crate::engine::sample::{check_network, check_radius, deviations, drifting};
use crate::engine::{
    Distribution, EngineError, Exact, Owner, PerSample, Reduced, Reductions, Runner, SampleBound,
    TapStats, Variant,
};
use crate::network::{Network, Tap};
use crate::quant::QuantizedNetwork;
use crate::tensor::{Batch, memory};

/// Images whose bounds are found side by side by one thread.
const TOGETHER: usize = 5;

/// One network on the CPU.
pub struct CpuRunner<'a, T> {
    engine: &'a CpuEngine<T>,
    pub(super) network: &'a Network,
    taps: Vec<Tap>,
    last_uses: Vec<Option<usize>>,
    summed: Vec<Option<usize>>,
    /// Free buffers of each thread.
    buffers: Vec<Buffers<T>>,
    pub(super) reference: Model<T>,
    owner: Owner,
    images: Vec<Reference<T>>,
    max_batch: usize,
    room: u64,
}

/// One image of the current batch.
#[derive(Default)]
struct Reference<T> {
    input: Vec<T>,
    /// The full-precision values of all nodes.
    values: Values<T>,
    /// By node: what every comparison with them needs.
    known: Vec<OnceLock<Known>>,
}

impl<'a, T: Real> CpuRunner<'a, T> {
    /// Converts the weights once.
    pub fn new(engine: &'a CpuEngine<T>, network: &'a Network) -> Self {
        let needs = Needs::of::<T>(network, engine.threads());
        // Half of what is left is for batches, half for variants that stay loaded.
        let left = memory::budget().saturating_sub(needs.fixed);
        let room = engine.budget.min(left / 2);
        Self {
            engine,
            network,
            last_uses: network.last_uses(),
            summed: summed(network),
            buffers: (0..engine.threads()).map(|_| Buffers::default()).collect(),
            reference: Model::new(network),
            owner: Owner::default(),
            images: Vec::new(),
            max_batch: (room / needs.image.max(1)).max(1),
            room: room as u64,
            taps: network.taps(),
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
            summed: &self.summed,
            keep,
            unseen: false,
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
            if !few.is_empty() {
                let few = few.iter_mut().enumerate();
                let split = |(i, item)| f(done + i, item, Split::Parallel);
                results.extend(team::together(|| few.map(split).collect::<Vec<R>>()));
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

    pub(super) fn variant<'v>(
        &self,
        variant: &'v Variant,
    ) -> Result<Cow<'v, Model<T>>, EngineError> {
        let model: &Model<T> = variant.data(&self.owner)?;
        let Some(node) = variant.only() else {
            return Ok(Cow::Borrowed(model));
        };
        if node >= self.network.nodes.len() {
            return Err(EngineError::Usage(format!(
                "network {} has {} nodes, {node} is none of them",
                self.network.name,
                self.network.nodes.len()
            )));
        }
        Ok(Cow::Owned(self.reference.with_node_of(model, node)))
    }
}

impl<T: Real> Runner for CpuRunner<'_, T> {
    fn max_batch(&self) -> usize {
        self.max_batch
    }

    fn room(&self) -> u64 {
        self.room
    }

    fn load(&mut self, quantized: &QuantizedNetwork) -> Result<Variant, EngineError> {
        let model = self
            .reference
            .variant(self.network, quantized)
            .map_err(|(node, problem)| EngineError::Usage(format!("node {node}: {problem}")))?;
        let weights: usize = quantized.layers.iter().map(|l| l.codes.len()).sum();
        let bytes = (weights * size_of::<T>()) as u64;
        Ok(Variant::new(&self.owner, bytes, model))
    }

    fn reference(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        self.check(input)?;
        let mut images = std::mem::take(&mut self.images);
        images.resize_with(input.images(), Reference::default);
        let keep = self.everything();
        let outputs = self.each(&mut images, |i, image, split| {
            image.known.clear();
            image
                .known
                .resize_with(self.network.nodes.len(), OnceLock::new);
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

    fn forward(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        self.check(input)?;
        let keep = self.output_only();
        let mut images: Vec<usize> = (0..input.images()).collect();
        Ok(self.each(&mut images, |_, &mut i, split| {
            let mut pass = self.pass(&self.reference, &keep, split);
            pass.unseen = true;
            let image = input.image(i);
            let mut wide = pass.buffers.take(image.len());
            let pairs = wide.iter_mut().zip(image);
            pairs.for_each(|(to, &x)| *to = x.into());
            let mut values = Values::default();
            pass.run(&wide, &mut values, |_, _| ());
            let output = output(&wide, &values);
            pass.buffers.give(wide);
            values.0.into_iter().for_each(|v| pass.buffers.give(v));
            output
        }))
    }

    fn run(
        &mut self,
        variants: &[&Variant],
        reductions: &Reductions<'_>,
    ) -> Result<Vec<Reduced>, EngineError> {
        let each = variants.iter().map(|v| self.reduced(v, reductions));
        each.collect()
    }

    fn per_sample(&mut self) -> Option<&mut dyn PerSample> {
        Some(self)
    }

    fn trace(
        &mut self,
        input: &Batch,
        variant: Option<&Variant>,
    ) -> Result<Vec<Batch<f64>>, EngineError> {
        self.check(input)?;
        let model = match variant {
            None => Cow::Borrowed(&self.reference),
            Some(variant) => self.variant(variant)?,
        };
        let keep = self.everything();
        let mut values: Vec<Values<T>> = Vec::new();
        values.resize_with(input.images(), Values::default);
        self.each(&mut values, |i, values, split| {
            let image: Vec<T> = input.image(i).iter().map(|&x| T::from(x)).collect();
            self.pass(&model, &keep, split)
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

impl<T: Real> PerSample for CpuRunner<'_, T> {
    fn bounds(
        &mut self,
        variant: &Variant,
        radius: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        check_radius(radius)?;
        self.sample_bounds(variant, radius, None)
    }

    fn centred(
        &mut self,
        variant: &Variant,
        radius: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        check_radius(radius)?;
        let model = self.variant(variant)?;
        let mut images = self.current()?;
        check_network(self.network)?;
        let drifts = drifting(self.network, |i| self.changed(&model, i));
        Ok(self.each(&mut images, |_, image, split| {
            let pass = CentredPass {
                pass: self.pass(&self.reference, &[], split),
                variant: &model,
                drifts: &drifts,
                radius,
            };
            let bounds = pass.run(&image.input);
            self.taps.iter().map(|t| bounds[t.node]).collect()
        }))
    }

    fn knows_centred(&self) -> bool {
        true
    }

    fn before_dice(
        &mut self,
        variant: &Variant,
        steps: &[Vec<f64>],
        failure: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        let lambda = deviations(self.network, steps, failure)?;
        self.sample_bounds(variant, 0.0, Some(Dice { steps, lambda }))
    }

    fn knows_dice(&self) -> bool {
        true
    }

    fn knows_grids(&self) -> bool {
        true
    }

    fn exact(&mut self, variant: &Variant) -> Result<Vec<Vec<Exact>>, EngineError> {
        let model = self.variant(variant)?;
        let mut images = self.current()?;
        check_network(self.network)?;
        Ok(self.each(&mut images, |_, image, split| {
            let pass = ExactPass {
                pass: self.pass(&self.reference, &[], split),
                variant: &model,
                taps: &self.taps,
            };
            pass.run(&image.input)
        }))
    }
}

impl<T: Real> CpuRunner<'_, T> {
    /// True where node `i` of the variant makes other numbers of the same ones.
    fn changed(&self, model: &Model<T>, i: usize) -> bool {
        let params = self.reference.params(i).zip(model.params(i));
        let moved = params.is_some_and(|(a, b)| a.weight != b.weight || a.bias != b.bias);
        moved || model.rounds(i)
    }

    fn sample_bounds(
        &mut self,
        variant: &Variant,
        radius: f64,
        dice: Option<Dice<'_>>,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        let model = self.variant(variant)?;
        let images = self.current()?;
        check_network(self.network)?;
        let drifts = drifting(self.network, |i| {
            self.changed(&model, i) || dice.is_some_and(|d| !d.steps[i].is_empty())
        });
        // Images of a group share what is made of weights; as many groups for every thread.
        let threads = self.engine.threads();
        let rounds = images.len().div_ceil(threads * TOGETHER);
        let together = images.len().div_ceil(threads * rounds);
        let images: Vec<Image<'_, T>> = (images.into_iter())
            .map(|image| Image {
                input: &image.input,
                values: &image.values,
            })
            .collect();
        let mut groups: Vec<&[Image<'_, T>]> = images.chunks(together).collect();
        let wide = Buffers::default();
        let found = self.each(&mut groups, |_, group, split| {
            let pass = SamplePass {
                pass: self.pass(&self.reference, &[], split),
                variant: &model,
                drifts: &drifts,
                radius,
                dice,
                wide: &wide,
            };
            pass.run(group)
        });
        let at_taps = |bounds: Vec<SampleBound>| self.taps.iter().map(|t| bounds[t.node]).collect();
        Ok(found.into_iter().flatten().map(at_taps).collect())
    }

    /// One pass of a variant over every image of the batch.
    fn reduced(
        &self,
        variant: &Variant,
        reductions: &Reductions<'_>,
    ) -> Result<Reduced, EngineError> {
        let model = self.variant(variant)?;
        let mut images = self.current()?;
        let (at, bins) = (
            reductions.nodes(self.network)?,
            reductions.bins(self.network)?,
        );
        let nodes = &self.network.nodes;
        let mut place = vec![None; nodes.len()];
        for (i, &node) in at.iter().enumerate() {
            place[node] = Some(i);
        }
        let spread = if bins.is_some() { nodes.len() } else { 0 };
        let keep = self.output_only();
        let run = variant.only().map(|node| self.network.downstream(node));
        let reached = |node: usize| run.as_ref().is_none_or(|run| run[node]);
        let results = self.each(&mut images, |_, image, split| {
            let mut stats = vec![TapStats::default(); at.len()];
            let mut found = vec![Distribution::default(); spread];
            let mut see = |node: usize, value: &[T]| {
                let reference = &image.values.0[node + 1];
                if let Some(at) = place[node] {
                    let known = image.known[node].get_or_init(|| Known::of(reference, split));
                    stats[at] = reduce(reference, known, value, split);
                }
                if let Some(bins) = bins {
                    let bins = bins.map(|b| &b[node]);
                    found[node] = distribution(value, reference, nodes[node].shape, bins, split);
                }
            };
            let mut values = Values::default();
            let mut pass = self.pass(&model, &keep, split);
            pass.base = run.as_deref().map(|run| Base {
                values: &image.values,
                run,
            });
            let mut layers_run = 0;
            pass.run(&image.input, &mut values, |node, value| {
                layers_run += usize::from(nodes[node].is_layer());
                see(node, value);
            });
            // What the pass does not reach is the reference's own.
            for node in (0..nodes.len()).filter(|&node| !reached(node)) {
                see(node, &image.values.0[node + 1]);
            }
            let outputs = match nodes.len().checked_sub(1) {
                Some(last) if !reached(last) => output(&image.input, &image.values),
                _ => output(&image.input, &values),
            };
            values.0.into_iter().for_each(|v| pass.buffers.give(v));
            (stats, outputs, found, layers_run)
        });
        let mut reduced = Reduced {
            distributions: vec![Distribution::default(); spread],
            ..Reduced::default()
        };
        for (stats, outputs, found, layers_run) in results {
            reduced.stats.push(stats);
            reduced.outputs.push(outputs);
            reduced.layers_run = layers_run;
            for (all, one) in reduced.distributions.iter_mut().zip(&found) {
                all.merge(one);
            }
        }
        Ok(reduced)
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
