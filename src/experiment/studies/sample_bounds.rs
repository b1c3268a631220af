//! Bounds from the activations of each image: `sample`, `ball` and `ball-centred` around it, and `sample-stochastic` before weights are rounded at
//! random, beside what was measured.

use super::{BatchStudy, Chunk, Collecting, Found, Study, StudyTable, Subject, encode};
use crate::experiment::code;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::{Plan, Studies};
use crate::experiment::subject::context::ModelContext;
use crate::facts;
use crate::results::schema::{Row, SampleBoundRow};
use crate::tensor::Batch;

/// Stem of the table.
pub const TABLE: &str = SampleBoundRow::TABLE;

/// `sample = true`, `ball = [radius, ...]`, `ball_centred = [radius, ...]` and `stochastic = probability` of a plan.
#[derive(Clone, Debug)]
pub struct SampleBounds {
    /// Of each image, and of the balls around it.
    pub radii: Vec<f64>,
    /// Of balls around the discrepancy at each image.
    pub centred: Vec<f64>,
    /// The probability that a bound before random rounding fails.
    pub failure: Option<f64>,
}

impl SampleBounds {
    /// What a plan asks for; `None` when it asks for nothing.
    pub fn of(studies: &Studies) -> Option<Self> {
        let alone = studies.sample.then_some(0.0);
        let radii: Vec<f64> = alone
            .into_iter()
            .chain(studies.ball.iter().copied())
            .collect();
        let (centred, failure) = (studies.ball_centred.clone(), studies.stochastic);
        let asked = !radii.is_empty() || !centred.is_empty() || failure.is_some();
        asked.then_some(Self {
            radii,
            centred,
            failure,
        })
    }
}

/// Name of the bound for a radius.
pub fn id(radius: f64) -> String {
    match radius {
        0.0 => facts::SAMPLE.id.into(),
        r => facts::BALL.with(r),
    }
}

/// `log10` of a bound, rounded upward; negative infinity for a bound of exactly zero.
pub fn log10_up(bound: f64) -> f64 {
    if bound == 0.0 {
        // The number after negative infinity is the least finite one: 300 digits that say nothing.
        return f64::NEG_INFINITY;
    }
    // The logarithm is within a unit in the last place.
    bound.log10().next_up().next_up()
}

impl Study for SampleBounds {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn settings(&self, _: &Plan) -> String {
        let mut text = format!("radii {:?}", self.radii);
        if !self.centred.is_empty() {
            text += &format!(" centred {:?}", self.centred);
        }
        if let Some(p) = self.failure {
            text += &format!(" dice {p}");
        }
        text
    }

    fn code(&self) -> &'static str {
        code::SAMPLE_BOUNDS
    }

    fn tables(&self) -> Vec<StudyTable> {
        vec![StudyTable::of::<SampleBoundRow>()]
    }
}

impl BatchStudy for SampleBounds {
    fn begin(&self) -> Box<dyn Collecting> {
        Box::new(Bounded {
            study: self.clone(),
            rows: Vec::new(),
            without: None,
        })
    }
}

/// What was found of one cell and batch.
struct Bounded {
    study: SampleBounds,
    rows: Vec<SampleBoundRow>,
    /// Why some bounds are not there.
    without: Option<&'static str>,
}

impl Collecting for Bounded {
    fn add(&mut self, subject: &Subject<'_>, chunk: &mut Chunk<'_, '_>) -> Result<(), SweepError> {
        let network = &subject.model.network;
        let rounds = !subject.quantized.activations.is_empty();
        if rounds && !chunk.runner.samples()?.knows_grids() {
            self.without =
                Some("the engine knows none for quantized activations; backend = \"cpu-f32\" does");
            return Ok(());
        }
        let taps = network.taps();
        let measured = chunk.compared()?.stats.clone();
        let key = &subject.cell.key;
        let mut all = Vec::new();
        for &radius in &self.study.radii {
            let bounds = chunk.runner.samples()?.bounds(chunk.variant, radius)?;
            all.push((id(radius), bounds));
        }
        if chunk.runner.samples()?.knows_centred() {
            for &radius in &self.study.centred {
                let bounds = chunk.runner.samples()?.centred(chunk.variant, radius)?;
                all.push((facts::BALL_CENTRED.with(radius), bounds));
            }
        } else if !self.study.centred.is_empty() {
            self.without = Some(
                "around the discrepancy at an image they need backend = \"cpu-f32\" or \"cpu-f64\"",
            );
        }
        // Quantizers without dice have nothing to say before they fall.
        let dice = subject.cell.spec.quantizer.dice()?;
        if let Some((failure, uniform)) = self.study.failure.zip(dice) {
            let samples = chunk.runner.samples()?;
            match uniform.dice(network).filter(|_| samples.knows_dice()) {
                Some(steps) => {
                    let bounds = samples.before_dice(chunk.variant, &steps, failure)?;
                    all.push((facts::SAMPLE_STOCHASTIC.with(failure), bounds));
                }
                None => {
                    self.without = Some(
                        "before random rounding they need backend = \"cpu-f32\" and grids that hold every weight",
                    );
                }
            }
        }
        // Image by image, so that the order does not depend on how many fit a chunk.
        for (i, (image, stats)) in chunk.images.clone().zip(&measured).enumerate() {
            for (id, bounds) in &all {
                for ((tap, bound), stats) in taps.iter().zip(&bounds[i]).zip(stats) {
                    self.rows.push(SampleBoundRow {
                        cell_id: key.cell_id.clone(),
                        model: key.model.clone(),
                        quantizer: key.quantizer.clone(),
                        bits: key.bits,
                        granularity: key.granularity.name().to_string(),
                        bound: id.clone(),
                        image: subject.given.images.images[image].name.clone(),
                        depth: tap.depth as u32,
                        layer: network.nodes[tap.node].name.clone(),
                        log10_bound: log10_up(bound.bound),
                        capped: bound.capped_share(),
                        max_abs_diff: stats.largest(),
                    });
                }
            }
        }
        Ok(())
    }

    fn finish(
        &mut self,
        subject: &Subject<'_>,
        _: u32,
        _: &Batch,
        _: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Found, SweepError> {
        if let Some(why) = self.without {
            let cell = subject.cell.key.title();
            tell(Event::Note(format!(
                "{cell}: not all bounds of samples: {why}"
            )));
        }
        Ok(vec![encode(&self.rows)?].into())
    }
}

#[cfg(test)]
mod tests {
    use super::log10_up;

    #[test]
    fn the_logarithm_of_a_bound_is_rounded_up_and_nothing_stays_nothing() {
        assert_eq!(log10_up(0.0), f64::NEG_INFINITY);
        assert_eq!(log10_up(f64::INFINITY), f64::INFINITY);
        assert!(log10_up(f64::NAN).is_nan());
        for bound in [1.0, 5e-324, 1e-300, 2.5, 1e300, f64::MAX] {
            let log = log10_up(bound);
            assert!(
                log > bound.log10() && log - bound.log10() < 1e-12,
                "{bound}"
            );
        }
    }
}
