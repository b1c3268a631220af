//! The worst input of a box: the largest `max |y' - y|` that a search finds.
//!
//! What it finds is reached by an input of the box, so it is a lower bound on the supremum over the box, which
//! every bound of [`crate::bounds`] is above. It says nothing of inputs that were not evaluated.

mod outcome;
mod projected_gradient_ascent;
mod record;
mod region;
mod square_attack;
mod state;
mod task;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::projected_gradient_ascent::ProjectedGradientAscent;
use self::square_attack::SquareAttack;
use self::state::Saved;
use crate::engine::cpu::{CpuEngine, CpuRunner};
use crate::engine::{EngineError, Runner, Variant};
use crate::results::store::StoreError;

pub use outcome::{Outcome, Verdicts, beside, counts, verdicts, write_worst};
pub use record::Record;
pub use region::Region;
pub use task::{IMAGES, Task, Worst, until};

/// What stops a search; what it has written stays, and the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No input to search.
    #[error(
        "the domain holds no f32 inputs of {channels} channels; give every channel an interval with an f32 number in it"
    )]
    Region {
        /// Channels of the network's input.
        channels: usize,
    },
    /// The state is of another search.
    #[error(
        "{path}: is of a search with other settings; give this one another directory, or remove the file"
    )]
    OtherTask {
        /// The state.
        path: PathBuf,
    },
    /// The state cannot be read.
    #[error("{path}: cannot be used ({problem}); remove it to begin anew")]
    State {
        /// The state.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Projected gradient ascent, on the processor in f32.
    Gradient,
    /// Windows at ends of the box, on any engine.
    Free,
}

impl Method {
    /// The name used in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gradient => "gradient",
            Self::Free => "free",
        }
    }
}

/// Of the methods: raised when they choose other inputs, so that stored results and states are not mixed.
pub const VERSION: u32 = 2;
/// Evaluations between two writings of the state.
const SAVE_EVERY: usize = 64;

enum Search<'a> {
    Gradient(Box<ProjectedGradientAscent<'a>>),
    Free(SquareAttack<'a>),
}

impl Search<'_> {
    fn record(&self) -> &Record {
        match self {
            Self::Gradient(s) => s.record(),
            Self::Free(s) => s.record(),
        }
    }

    fn step(&mut self, most: usize) -> Result<(), SearchError> {
        match self {
            Self::Gradient(s) => s.step(),
            Self::Free(s) => s.step(most),
        }
    }

    fn save(&self, path: &Path, id: &str) -> Result<(), SearchError> {
        let mut saved = Saved::new(path, id);
        match self {
            Self::Gradient(s) => s.save(&mut saved)?,
            Self::Free(s) => s.save(&mut saved)?,
        }
        saved.write()
    }

    fn load(&mut self, mut saved: Saved) -> Result<(), SearchError> {
        match self {
            Self::Gradient(s) => s.load(&mut saved),
            Self::Free(s) => s.load(&mut saved),
        }
    }
}

/// Where a search without gradients evaluates: the task's networks on an engine.
pub struct Ground<'g, 'r> {
    /// Of the task's full-precision network.
    pub runner: &'g mut (dyn Runner + 'r),
    /// Of its quantized one.
    pub variant: &'g Variant,
}

/// Searches until the budget is spent. With a directory, the state is kept in `state-<method>.safetensors` there, and a
/// search that was killed goes on to the result it would have had. `tell` sees the record after every round.
///
/// One seed gives one result on one kind of engine, for any number of threads.
pub fn search(
    method: Method,
    task: &Task,
    ground: Ground<'_, '_>,
    processor: &CpuEngine<f32>,
    dir: Option<&Path>,
    tell: &mut dyn FnMut(&Record),
) -> Result<Record, SearchError> {
    let mut search = match method {
        Method::Gradient => {
            let mut runner = CpuRunner::new(processor, &task.network);
            let variant = runner.load(&task.quantized)?;
            let record = begin(task, &mut runner, &variant)?;
            Search::Gradient(Box::new(ProjectedGradientAscent::new(
                task, runner, variant, record,
            )))
        }
        Method::Free => {
            let Ground { runner, variant } = ground;
            let record = begin(task, runner, variant)?;
            Search::Free(SquareAttack::new(task, runner, variant, record))
        }
    };
    let path = dir.map(|d| d.join(format!("state-{}.safetensors", method.name())));
    if let Some(path) = &path
        && let Some(saved) = Saved::read(path, &task.id)?
    {
        search.load(saved)?;
        tell(search.record());
    }
    let mut saved_at = search.record().evaluations();
    loop {
        let evaluations = search.record().evaluations();
        let done = evaluations >= task.budget;
        if let Some(path) = &path
            && (evaluations >= saved_at + SAVE_EVERY || (done && evaluations > saved_at))
        {
            search.save(path, &task.id)?;
            saved_at = evaluations;
        }
        if done {
            return Ok(search.record().clone());
        }
        search.step(task.budget - evaluations)?;
        tell(search.record());
    }
}

/// The record of the given images, which cost no budget.
fn begin(
    task: &Task,
    runner: &mut (dyn Runner + '_),
    variant: &Variant,
) -> Result<Record, SearchError> {
    let images = 0..task.images.images();
    let inputs: Vec<Vec<f32>> = images.map(|i| task.images.image(i).to_vec()).collect();
    let values = task.evaluate(runner, variant, &inputs)?;
    let names: Vec<String> = task.names.iter().map(|n| format!("image {n}")).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    Ok(Record::new(&values, &inputs, &names))
}
