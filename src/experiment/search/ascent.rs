//! Projected gradient ascent in sign steps with momentum. The step halves where it no longer pays (the schedule
//! of Croce and Hein, Auto-PGD, arXiv 2003.01690, with checkpoints at equal distances).

use serde::{Deserialize, Serialize};

use super::SearchError;
use super::record::Record;
use super::state::Saved;
use super::task::Task;
use crate::engine::VariantId;
use crate::engine::cpu::{CpuRunner, Slope};
use crate::experiment::measure::max_abs_diff;
use crate::quant::random::Stream;
use crate::tensor::Batch;

/// Ascents that go on side by side.
const LANES: usize = 4;
/// Evaluations of one ascent.
const LENGTH: u32 = 60;
/// Evaluations between two looks at the step size.
const CHECK: u32 = 6;
/// Share of steps between two looks that have to gain.
const GAINS: f64 = 0.75;
/// The first step, as a share of the box.
const FIRST_STEP: f32 = 0.5;
/// Weight of the new step against the last one.
const NEW: f32 = 0.75;

/// Ascents from one start after the other.
pub(super) struct Ascent<'a> {
    task: &'a Task,
    runner: CpuRunner<'a, f32>,
    variant: VariantId,
    random: Stream,
    record: Record,
    state: State,
}

#[derive(Default, Serialize, Deserialize)]
struct State {
    started: u64,
    lanes: Vec<Lane>,
}

/// One ascent.
#[derive(Default, Serialize, Deserialize)]
struct Lane {
    start: String,
    steps: u32,
    halvings: i32,
    gains: u32,
    /// Where it is, where it was, and the best it has seen.
    #[serde(skip)]
    inputs: [Vec<f32>; 3],
    /// The last value, the best one, and the best at the last look.
    #[serde(skip)]
    values: [f64; 3],
}

const NONE: f64 = f64::NEG_INFINITY;

impl<'a> Ascent<'a> {
    pub fn new(
        task: &'a Task,
        runner: CpuRunner<'a, f32>,
        variant: VariantId,
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

    /// One evaluation of every lane, at most `most`.
    pub fn step(&mut self, most: usize) -> Result<(), SearchError> {
        while self.state.lanes.len() < LANES {
            let lane = self.start();
            self.state.lanes.push(lane);
        }
        let active = LANES.min(most);
        let lanes = &self.state.lanes[..active];
        let input = Batch {
            shape: self.task.network.input,
            data: lanes
                .iter()
                .flat_map(|l| l.inputs[0].iter().copied())
                .collect(),
        };
        let slopes = self.runner.slopes(&input, self.variant, toward_the_worst)?;
        for (i, slope) in slopes.iter().enumerate() {
            let value = max_abs_diff(&slope.stats);
            let lane = &mut self.state.lanes[i];
            self.record.see(value, &lane.start, &lane.inputs[0]);
            if !lane.step(value, slope, self.task) {
                self.state.lanes[i] = self.start();
            }
        }
        Ok(())
    }

    /// The next start: images in their order, corners between them, later perturbations of images and of the best.
    fn start(&mut self) -> Lane {
        let k = self.state.started;
        self.state.started += 1;
        let (region, random) = (&self.task.region, self.random.at(k));
        let names = &self.task.names;
        let image = (k / 2) as usize;
        let (start, x) = if k.is_multiple_of(2) && image < names.len() {
            let name = format!("image {}", names[image]);
            (name, self.task.images.image(image).to_vec())
        } else {
            match random.below(0, 3) {
                0 => {
                    let i = random.below(1, names.len());
                    let x = region.perturb(self.task.images.image(i), random.at(2));
                    (format!("perturbed image {}", names[i]), x)
                }
                1 if k > 2 => {
                    let x = region.perturb(&self.record.input, random.at(2));
                    ("perturbed best".to_string(), x)
                }
                _ => {
                    let shape = region.shape();
                    let side = 1 + random.below(1, shape.h.max(shape.w).div_ceil(4));
                    let x = region.cells([side, side], random.at(2));
                    (format!("corner of {side} x {side} cells"), x)
                }
            }
        };
        Lane {
            start,
            inputs: [x.clone(), x.clone(), x],
            values: [NONE; 3],
            ..Lane::default()
        }
    }

    pub fn save(&self, saved: &mut Saved) -> Result<(), SearchError> {
        saved.put_record(&self.record)?;
        saved.put_text("ascent", &self.state)?;
        for (i, lane) in self.state.lanes.iter().enumerate() {
            saved.wide(format!("lane{i}.values"), lane.values.to_vec());
            for (j, input) in lane.inputs.iter().enumerate() {
                saved.floats(format!("lane{i}.{j}"), input.clone());
            }
        }
        Ok(())
    }

    pub fn load(&mut self, saved: &mut Saved) -> Result<(), SearchError> {
        self.record = saved.take_record()?;
        self.state = saved.text("ascent")?;
        for (i, lane) in self.state.lanes.iter_mut().enumerate() {
            let values = saved.take_wide(&format!("lane{i}.values"))?;
            lane.values = [0, 1, 2].map(|j| values.get(j).copied().unwrap_or(NONE));
            for (j, input) in lane.inputs.iter_mut().enumerate() {
                *input = saved.take_floats(&format!("lane{i}.{j}"))?;
            }
        }
        Ok(())
    }
}

/// Raises `|y' - y|` at the element where it is largest.
fn toward_the_worst(_: usize, y: &[f32], q: &[f32]) -> Vec<f32> {
    let mut g = vec![0.0; y.len()];
    let mut worst = 0.0;
    let mut at = None;
    for (i, (&y, &q)) in y.iter().zip(q).enumerate() {
        let d = f64::from(q) - f64::from(y);
        // False for NaN; infinities are no aim.
        if d.abs() > worst && d.is_finite() {
            worst = d.abs();
            at = Some((i, d));
        }
    }
    if let Some((i, d)) = at {
        g[i] = d.signum() as f32;
    }
    g
}

impl Lane {
    /// Takes the value and slope at the current input and moves on; false when there is nowhere to go.
    fn step(&mut self, value: f64, slope: &Slope<f32>, task: &Task) -> bool {
        let region = &task.region;
        let [last, best, at_check] = &mut self.values;
        let [x, before, best_x] = &mut self.inputs;
        self.gains += u32::from(value > *last);
        *last = if value.is_nan() { NONE } else { value };
        if value > *best {
            *best = value;
            best_x.clone_from(x);
        }
        self.steps += 1;
        // A slope that is zero everywhere, or no number, leads nowhere.
        if self.steps >= LENGTH || !slope.gradient.iter().any(|g| g.abs() > 0.0) {
            return false;
        }
        if self.steps.is_multiple_of(CHECK) {
            let few = f64::from(self.gains) < GAINS * f64::from(CHECK);
            let stuck = few || *best <= *at_check;
            *at_check = *best;
            self.gains = 0;
            if stuck {
                // Back to the best input, whose slope has to be taken again.
                self.halvings += 1;
                x.clone_from(best_x);
                before.clone_from(best_x);
                return true;
            }
        }
        let step = FIRST_STEP * 0.5f32.powi(self.halvings);
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
        true
    }
}
