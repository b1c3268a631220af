//! The discrepancy at a network's output with its derivative by the input.

use super::backward::Backward;
use super::model::Values;
use super::real::Real;
use super::reduce::{Known, reduce};
use super::runner::CpuRunner;
use crate::engine::sample::check_network;
use crate::engine::{EngineError, TapStats, Variant};
use crate::tensor::Batch;

/// One image's discrepancy at the output.
#[derive(Clone, Debug)]
pub struct Gradient<T> {
    /// Of `y' - y`.
    pub stats: TapStats,
    /// `J'^T g - J^T g`, the derivative of `g . (y' - y)` by the input, where `J'` and `J` are the Jacobians of
    /// the quantized and of the full-precision network.
    pub values: Vec<T>,
}

impl<T: Real> CpuRunner<'_, T> {
    /// Runs both networks on every image, and both backwards from `direction(image, y, y')`, the `g` of
    /// [`Gradient::values`], which has the output's length.
    ///
    /// # Errors
    /// [`EngineError::Usage`] for images of another shape, a variant that is not loaded or a `g` of another length.
    pub fn gradients(
        &self,
        input: &Batch,
        variant: &Variant,
        direction: impl Fn(usize, &[T], &[T]) -> Vec<T> + Sync + Send,
    ) -> Result<Vec<Gradient<T>>, EngineError> {
        self.check(input)?;
        check_network(self.network)?;
        let (reference, variant) = (&self.reference, self.variant(variant)?);
        let keep = self.everything();
        let mut images: Vec<usize> = (0..input.images()).collect();
        let results = self.each(&mut images, |i, _, split| {
            let image: Vec<T> = input.image(i).iter().map(|&x| T::from(x)).collect();
            let [mut y, mut q] = [Values::default(), Values::default()];
            let pass = self.pass(reference, &keep, split);
            pass.run(&image, &mut y, |_, _| ());
            self.pass(&variant, &keep, split)
                .run(&image, &mut q, |_, _| ());
            let last = self.network.nodes.len();
            let output = |values: &Values<T>| -> Vec<T> {
                match last {
                    0 => image.clone(),
                    n => values.0[n].to_vec(),
                }
            };
            let (full, quantized) = (output(&y), output(&q));
            let mut g = direction(i, &full, &quantized);
            let fits = g.len() == full.len();
            let mut gradient = vec![T::ZERO; image.len()];
            if fits && last > 0 {
                let buffers = pass.buffers;
                let back = |model, values: &Values<T>, g: &[T], gradient: &mut [T]| {
                    let network = self.network;
                    Backward {
                        network,
                        model,
                        split,
                        buffers,
                    }
                    .run(&image, values, g, gradient);
                };
                back(&variant, &q, &g, &mut gradient);
                g.iter_mut().for_each(|g| *g = T::ZERO - *g);
                back(reference, &y, &g, &mut gradient);
            }
            for buffer in y.0.into_iter().chain(q.0) {
                pass.buffers.give(buffer);
            }
            let stats = reduce(&full, &Known::of(&full, split), &quantized, split);
            fits.then_some(Gradient {
                stats,
                values: gradient,
            })
        });
        let results: Option<Vec<Gradient<T>>> = results.into_iter().collect();
        results.ok_or_else(|| {
            EngineError::Usage(format!(
                "{}: a direction has as many values as the output, {}",
                self.network.name,
                self.network.output()
            ))
        })
    }
}
