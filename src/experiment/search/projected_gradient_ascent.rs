//! Projected ascent in sign steps that shrink, on a smooth stand-in of the largest difference.

use serde::{Deserialize, Serialize};

use super::SearchError;
use super::record::Record;
use super::state::Saved;
use super::task::Task;
use crate::engine::Variant;
use crate::engine::cpu::{CpuRunner, Slope};
use crate::quant::random::Stream;
use crate::tensor::Batch;

/// Evaluations of one ascent, if the budget has room for two.
const LENGTH: usize = 60;
/// The last step as a share of the first.
const LAST: f32 = 1.0 / 32.0;
/// First step from an image or from the best input, as a share of the box. Behind many layers a slope says nothing of
/// places further away.
const NEAR: f32 = 1.0 / 64.0;
/// First step from anywhere else: far enough to cross the box.
const FAR: f32 = 1.0 / 4.0;
/// Weight of the new step against the last one.
const NEW: f32 = 0.75;
/// One less than the `p` of the norm that is raised; odd, so that a power keeps the sign.
const POWER: i32 = 7;

/// One ascent after the other.
pub(super) struct ProjectedGradientAscent<'a> {
    task: &'a Task,
    runner: CpuRunner<'a, f32>,
    variant: Variant,
    random: Stream,
    record: Record,
    state: State,
}

/// The ascent under way; none before the first, and where one has ended.
#[derive(Default, Serialize, Deserialize)]
struct State {
    started: u64,
    start: String,
    first_step: f32,
    steps: usize,
    /// Whether the best input is another one than when an ascent last began there.
    gained: bool,
    /// Where it is, and where it was.
    #[serde(skip)]
    inputs: [Vec<f32>; 2],
}

impl<'a> ProjectedGradientAscent<'a> {
    pub fn new(
        task: &'a Task,
        runner: CpuRunner<'a, f32>,
        variant: Variant,
        record: Record,
    ) -> Self {
        Self {
            task,
            runner,
            variant,
            random: Stream::new(task.seed, 1),
            record,
            state: State::default(),
        }
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// One evaluation.
    pub fn step(&mut self) -> Result<(), SearchError> {
        if self.state.inputs[0].is_empty() {
            self.start();
        }
        let batch = Batch {
            shape: self.task.network.input,
            data: self.state.inputs[0].clone(),
        };
        let slopes = self
            .runner
            .slopes(&batch, &self.variant, toward_the_worst)?;
        for slope in &slopes {
            let value = slope.stats.largest();
            self.state.gained |= self.record.see(value, &self.state.start, &batch.data);
            self.state.steps += 1;
            match self.goes_on() {
                true => self.state.go(slope, self.task),
                false => self.state.inputs = Default::default(),
            }
        }
        Ok(())
    }

    /// False at the end of an ascent, and halfway where nothing has come of it.
    fn goes_on(&self) -> bool {
        let (steps, length) = (self.state.steps, length(self.task));
        let trace = &self.record.trace;
        let own = &trace[trace.len() - steps..];
        steps < length && (steps != length / 2 || own.iter().any(|&value| value > own[0]))
    }

    /// The next start: after each ascent from elsewhere one from the best input. Elsewhere is in turn an image, from
    /// the worst on, later perturbed, and a corner.
    fn start(&mut self) {
        // An image that led nowhere is left at once.
        let k = match self.state.started {
            1 if !self.state.gained => 2,
            k => k,
        };
        let (region, random) = (&self.task.region, self.random.at(k));
        let (turn, names) = ((k / 4) as usize, &self.task.names);
        let (name, image) = (
            &names[turn % names.len()],
            self.task.images.image(turn % names.len()),
        );
        let (start, first_step, x) = match k % 4 {
            0 if turn < names.len() => (format!("image {name}"), NEAR, image.to_vec()),
            0 => {
                let x = region.perturb(image, random.at(1));
                (format!("perturbed image {name}"), NEAR, x)
            }
            2 => {
                let shape = region.shape();
                let side = 1 + random.below(0, shape.h.max(shape.w).div_ceil(4));
                let x = region.cells([side, side], random.at(1));
                (format!("corner of {side} x {side} cells"), FAR, x)
            }
            _ => {
                // The same ascent from the same input would find nothing new.
                let power = match self.state.gained {
                    true => 0,
                    false => random.below(0, 6) as i32 - 2,
                };
                let (name, x) = (self.record.start.clone(), self.record.input.clone());
                (name, NEAR * 2f32.powi(power), x)
            }
        };
        self.state = State {
            started: k + 1,
            start,
            first_step,
            steps: 0,
            gained: self.state.gained && k % 2 == 0,
            inputs: [x.clone(), x],
        };
    }

    pub fn save(&self, saved: &mut Saved) -> Result<(), SearchError> {
        saved.put_record(&self.record)?;
        for (i, input) in self.state.inputs.iter().enumerate() {
            saved.floats(format!("ascent.{i}"), input.clone());
        }
        saved.put_text("ascent", &self.state)
    }

    pub fn load(&mut self, saved: &mut Saved) -> Result<(), SearchError> {
        self.record = saved.take_record()?;
        self.state = saved.text("ascent")?;
        for (i, input) in self.state.inputs.iter_mut().enumerate() {
            *input = saved.take_floats(&format!("ascent.{i}"))?;
        }
        Ok(())
    }
}

impl State {
    /// Moves along the slope at the current input; where there is nowhere to go, the ascent ends.
    fn go(&mut self, slope: &Slope<f32>, task: &Task) {
        let region = &task.region;
        // A slope that is zero everywhere, or no number, leads nowhere.
        if !slope.gradient.iter().any(|g| g.abs() > 0.0) {
            self.inputs = Default::default();
            return;
        }
        let [x, before] = &mut self.inputs;
        let step = self.first_step * LAST.powf(self.steps as f32 / length(task) as f32);
        let mut next = x.clone();
        for (i, next) in next.iter_mut().enumerate() {
            let [lo, hi] = region.ends(i);
            let g = slope.gradient[i];
            let sign = f32::from(i8::from(g > 0.0) - i8::from(g < 0.0));
            let there = (x[i] + step * (hi - lo) * sign).clamp(lo, hi);
            *next = x[i] + NEW * (there - x[i]) + (1.0 - NEW) * (x[i] - before[i]);
        }
        region.project(&mut next);
        *before = std::mem::replace(x, next);
    }
}

/// Evaluations of one ascent.
fn length(task: &Task) -> usize {
    LENGTH.min(task.budget.div_ceil(2))
}

/// The derivative of the 8-norm of `y' - y` up to a positive factor: near that of the largest element, but with a say
/// for those that may overtake it, and where it is flat. Elements that are not finite are no aim.
fn toward_the_worst(_: usize, y: &[f32], q: &[f32]) -> Vec<f32> {
    let differences = || {
        y.iter()
            .zip(q)
            .map(|(&y, &q)| f64::from(q) - f64::from(y))
            .map(|d| if d.is_finite() { d } else { 0.0 })
    };
    let largest = differences().fold(0.0, |m: f64, d| m.max(d.abs()));
    let weight = |d: f64| match largest > 0.0 {
        true => (d / largest).powi(POWER) as f32,
        false => 0.0,
    };
    differences().map(weight).collect()
}
