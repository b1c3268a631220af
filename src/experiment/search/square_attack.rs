//! Gradient-free search: windows of the best input go to ends of the box, in ever smaller windows (after the
//! square attack of Andriushchenko et al., arXiv 1912.00049, with several candidates at a time).

use serde::{Deserialize, Serialize};

use super::SearchError;
use super::record::Record;
use super::state::Saved;
use super::task::Task;
use crate::engine::{Runner, Variant};
use crate::quant::random::Stream;
use crate::tensor::Shape;

/// Candidates of one round.
const CANDIDATES: usize = 8;
/// Side of the first and of the last windows, as a share of the image's.
const SIDES: [f64; 2] = [0.6, 0.04];

/// Rounds of candidates around the best input.
pub(super) struct SquareAttack<'a> {
    task: &'a Task,
    runner: &'a mut (dyn Runner + 'a),
    variant: &'a Variant,
    random: Stream,
    record: Record,
    state: State,
}

#[derive(Default, Serialize, Deserialize)]
struct State {
    rounds: u64,
}

impl<'a> SquareAttack<'a> {
    pub fn new(
        task: &'a Task,
        runner: &'a mut (dyn Runner + 'a),
        variant: &'a Variant,
        record: Record,
    ) -> Self {
        Self {
            task,
            runner,
            variant,
            random: Stream::new(task.seed, 2),
            record,
            state: State::default(),
        }
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// One round of at most `most` evaluations.
    pub fn step(&mut self, most: usize) -> Result<(), SearchError> {
        let count = CANDIDATES.min(most);
        let random = self.random.at(self.state.rounds);
        let candidates: Vec<(String, Vec<f32>)> = match self.state.rounds {
            0 => self.corners(random).into_iter().take(count).collect(),
            _ => (0..count as u64)
                .map(|i| (self.record.start.clone(), self.window(random.at(i))))
                .collect(),
        };
        let (starts, inputs): (Vec<String>, Vec<Vec<f32>>) = candidates.into_iter().unzip();
        let values = self.task.evaluate(self.runner, self.variant, &inputs)?;
        for ((value, start), input) in values.into_iter().zip(&starts).zip(&inputs) {
            self.record.see(value, start, input);
        }
        self.state.rounds += 1;
        Ok(())
    }

    /// The candidates of the first round.
    fn corners(&self, random: Stream) -> [(String, Vec<f32>); CANDIDATES] {
        let region = &self.task.region;
        let Shape { h, w, .. } = region.shape();
        let part = |n: usize| n.div_ceil(8);
        let nearest = region.nearest_corner(&self.record.input);
        let cells = |size: [usize; 2], i: u64| region.cells(size, random.at(i));
        [
            (format!("corner nearest to {}", self.record.start), nearest),
            ("lower corner".to_string(), region.corner(|_, _, _| false)),
            ("upper corner".to_string(), region.corner(|_, _, _| true)),
            (
                "checkerboard".to_string(),
                region.corner(|_, y, x| (x + y) % 2 == 1),
            ),
            ("columns".to_string(), cells([h, 1], 0)),
            ("rows".to_string(), cells([1, w], 1)),
            ("corner of cells".to_string(), cells([part(h), part(w)], 2)),
            ("corner of pixels".to_string(), cells([1, 1], 3)),
        ]
    }

    /// The best input with one window changed: every channel to one end, or every pixel mirrored in the box.
    fn window(&self, random: Stream) -> Vec<f32> {
        let region = &self.task.region;
        let Shape { c, h, w } = region.shape();
        let done = self.record.evaluations() as f64 / self.task.budget.max(1) as f64;
        let share = SIDES[0] * (SIDES[1] / SIDES[0]).powf(done);
        let side = |n: usize| ((n as f64 * share).round() as usize).clamp(1, n);
        let (rows, columns) = (side(h), side(w));
        let top = random.below(0, h - rows + 1);
        let left = random.below(1, w - columns + 1);
        let mirror = random.below(2, 4) == 0;
        let mut x = self.record.input.clone();
        for channel in 0..c {
            let high = random.bits(3 + channel as u64) >> 63 == 1;
            for row in top..top + rows {
                for column in left..left + columns {
                    let i = (channel * h + row) * w + column;
                    let [lo, hi] = region.ends(i);
                    x[i] = match mirror {
                        true => (lo + (hi - x[i])).clamp(lo, hi),
                        false if high => hi,
                        false => lo,
                    };
                }
            }
        }
        x
    }

    pub fn save(&self, saved: &mut Saved) -> Result<(), SearchError> {
        saved.put_record(&self.record)?;
        saved.put_text("flips", &self.state)
    }

    pub fn load(&mut self, saved: &mut Saved) -> Result<(), SearchError> {
        self.record = saved.take_record()?;
        self.state = saved.text("flips")?;
        Ok(())
    }
}
