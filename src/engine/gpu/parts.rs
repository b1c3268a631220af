//! Batches that do not fit: fewer variants in a pass, then fewer images, in as many passes as it takes. What is asked of a
//! batch whose values do not all stay is asked part by part, each beside a full-precision pass of its own; every image's
//! numbers are the same bits either way.

use super::held::{Held, Reference};
use super::layout;
use super::pass::Recorder;
use super::runner::{GpuRunner, floats};
use crate::engine::{EngineError, Reduced, Reductions, Runner, Variant};
use crate::network::INPUT;
use crate::tensor::Batch;

/// Some of a batch's images at a time.
fn parts(batch: &Batch, most: usize) -> impl Iterator<Item = Batch> + '_ {
    let data = batch.data.chunks(most.max(1) * batch.shape.len());
    data.map(|data| Batch {
        shape: batch.shape,
        data: data.to_vec(),
    })
}

impl GpuRunner<'_> {
    /// A full-precision pass over a batch, whose values stay if they fit together.
    pub(super) fn hold(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        let whole = self.in_parts(input, Self::full_pass)?;
        if whole.len() > 1 {
            self.let_go();
            self.held = Held::Images(input.clone());
        }
        Ok(whole.into_iter().flatten().collect())
    }

    /// Runs variants on the batch of the last full-precision pass.
    pub(super) fn run_held(
        &mut self,
        variants: &[&Variant],
        reductions: &Reductions<'_>,
    ) -> Result<Vec<Reduced>, EngineError> {
        let parts = self.over_held(variants.len(), |runner, reference| {
            runner.each(variants, reductions, reference)
        })?;
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        for part in parts {
            for (whole, part) in all.iter_mut().zip(part) {
                whole.stats.extend(part.stats);
                whole.outputs.extend(part.outputs);
                for (all, some) in whole.distributions.iter_mut().zip(&part.distributions) {
                    all.merge(some);
                }
            }
        }
        Ok(all)
    }

    /// Asks of the batch of the last full-precision pass, which `wanted` variants are for; an answer for each part.
    pub(super) fn over_held<R>(
        &mut self,
        wanted: usize,
        mut ask: impl FnMut(&mut Self, &Reference) -> Result<R, EngineError>,
    ) -> Result<Vec<R>, EngineError> {
        loop {
            let answers = match std::mem::replace(&mut self.held, Held::Nothing) {
                Held::Nothing => {
                    return Err(EngineError::Usage(
                        "nothing to compare with: run the reference on a batch first".into(),
                    ));
                }
                Held::Whole(reference) => {
                    let answer = ask(self, &reference);
                    self.held = Held::Whole(reference);
                    answer.map(|answer| vec![answer])
                }
                Held::Images(batch) => {
                    let answers = self.in_parts(&batch, |runner, part| {
                        runner.full_pass(part)?;
                        let held = std::mem::replace(&mut runner.held, Held::Nothing);
                        let Held::Whole(reference) = held else {
                            return Err(EngineError::Usage("a pass left nothing".into()));
                        };
                        let answer = ask(runner, &reference);
                        runner.held = Held::Whole(reference);
                        answer
                    });
                    self.let_go();
                    self.held = Held::Images(batch);
                    answers
                }
            };
            match answers {
                Err(EngineError::Full { .. }) if self.fewer_variants(wanted) => {}
                Err(EngineError::Full { problem, .. }) if self.held.images() > 1 => {
                    self.put_aside()?;
                    if !self.fewer_images(self.held.images(), &problem) {
                        return Err(self.gpu.full(problem));
                    }
                }
                answers => return answers,
            }
        }
    }

    /// Does something to a batch, to as many images at a time as fit.
    pub(super) fn in_parts<R>(
        &mut self,
        batch: &Batch,
        mut act: impl FnMut(&mut Self, &Batch) -> Result<R, EngineError>,
    ) -> Result<Vec<R>, EngineError> {
        loop {
            let done = match batch.images() <= self.fits {
                true => act(self, batch).map(|done| vec![done]),
                false => parts(batch, self.fits)
                    .map(|part| act(self, &part))
                    .collect(),
            };
            match done {
                Err(EngineError::Full { problem, .. }) => {
                    self.put_aside()?;
                    if !self.fewer_images(batch.images(), &problem) {
                        return Err(self.gpu.full(problem));
                    }
                }
                done => return done,
            }
        }
    }

    /// Frees what the last full-precision pass left, and all maps.
    pub(super) fn let_go(&mut self) {
        self.held = Held::Nothing;
        self.arena.recount(0);
        self.gpu.settle();
    }

    /// Keeps the images of the last full-precision pass, and frees all maps.
    fn put_aside(&mut self) -> Result<(), EngineError> {
        let reference = match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Whole(reference) => reference,
            other => {
                self.let_go();
                self.held = other;
                return Ok(());
            }
        };
        let (images, shape) = (reference.images, self.network.input);
        let mut values = reference.values;
        let input = values.swap_remove(INPUT);
        drop(values);
        self.let_go();
        let bytes = layout::bytes(shape, images);
        let back = self.staging(bytes)?;
        let work = Recorder::new(self.gpu).finish(&[(&input, bytes, &back, 0)])?;
        let data = self.gpu.read(&back, &work, |data| {
            layout::unpack(shape, floats(&data[..bytes as usize]))
        })?;
        self.held = Held::Images(Batch { shape, data });
        Ok(())
    }

    /// Half as many variants share a pass from here on; false where none do.
    fn fewer_variants(&mut self, wanted: usize) -> bool {
        let together = self.together(self.held.images()).min(wanted);
        if together <= 1 {
            return false;
        }
        self.most_variants = together / 2;
        self.gpu.tell(&format!(
            "out of memory with {together} variants of {} at once; at most {} share a pass from here on",
            self.network.name, self.most_variants
        ));
        let kept = match &self.held {
            Held::Whole(reference) => reference.values.iter().map(wgpu::Buffer::size).sum(),
            _ => 0,
        };
        self.arena.recount(kept);
        self.gpu.settle();
        true
    }

    /// Half as many images run at once from here on; false for one.
    fn fewer_images(&mut self, images: usize, problem: &str) -> bool {
        let tried = images.min(self.fits);
        if tried <= 1 {
            return false;
        }
        self.fits = tried / 2;
        self.gpu.tell(&format!(
            "out of memory with {tried} images of {} at once ({problem}); at most {} run together from here on",
            self.network.name, self.fits
        ));
        true
    }
}
