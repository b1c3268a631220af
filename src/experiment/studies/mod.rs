//! Studies: what a sweep finds out about a cell. Measurement and bounds are the two that every sweep has; a plan turns the
//! others on in `[studies]`.
//!
//! Each study is one file here, has one or more tables of its own, and is stored per cell (or per cell and batch) as it is
//! made, so that a killed sweep goes on where it was.

pub mod attribution;
pub mod bounds;
pub mod dynamics;
pub mod guarantees;
pub mod isolated;
pub mod measure;
pub mod rescaling;
pub mod sample_bounds;
pub mod search;

use std::ops::Range;
use std::time::Instant;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use self::sample_bounds::SampleBounds;
use crate::engine::{EngineError, Reduced, Runner, Variant};
use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::parts;
use crate::experiment::plan::{Plan, Studies};
use crate::experiment::share::Share;
use crate::experiment::subject::context::{Given, ModelContext};
use crate::experiment::subject::model::LoadedModel;
use crate::network::Network;
use crate::quant::QuantizedNetwork;
use crate::results::schema::{Row, TailRow};
use crate::results::store::{self, Part, PartMeta};
use crate::tensor::Batch;

impl Studies {
    /// Stems of the tables of the studies that a plan turns on, `<stem>.parquet` in a finished run.
    pub const TABLES: &[&str] = &[
        sample_bounds::TABLE,
        isolated::TABLE,
        attribution::TABLE,
        search::TABLE,
        search::TRACE,
        dynamics::LAYERS,
        dynamics::CHANNELS,
        dynamics::HISTOGRAMS,
        guarantees::TABLE,
        rescaling::TABLE,
        TailRow::TABLE,
    ];

    /// Studies of each batch, the measurement first.
    pub fn of_batches(&self) -> Vec<Box<dyn BatchStudy>> {
        let mut studies: Vec<Box<dyn BatchStudy>> = vec![Box::new(measure::Measurement)];
        if let Some(study) = SampleBounds::of(self) {
            studies.push(Box::new(study));
        }
        if self.isolated {
            studies.push(Box::new(isolated::IsolatedStudy));
        }
        studies
    }

    /// Studies of a whole cell, the bounds first.
    pub fn of_cells(&self) -> Vec<Box<dyn CellStudy>> {
        let mut studies: Vec<Box<dyn CellStudy>> = vec![Box::new(bounds::Bounds)];
        if self.guarantees {
            studies.push(Box::new(guarantees::Guarantees));
        }
        if self.attribution > 0 {
            studies.push(Box::new(attribution::Attribution {
                images: self.attribution,
            }));
        }
        if self.rescale {
            studies.push(Box::new(rescaling::Rescaling));
        }
        if let Some(search) = self.search {
            studies.push(Box::new(search));
        }
        if self.dynamics {
            studies.push(Box::new(dynamics::Dynamics));
        }
        studies
    }
}

/// The cell that a study works on.
pub struct Subject<'a> {
    /// The sweep's.
    pub given: Given<'a>,
    /// The cell.
    pub cell: &'a Cell,
    /// All cells of its model.
    pub cells: &'a [&'a Cell],
    /// Its network, preprocessing and domain.
    pub model: &'a LoadedModel,
    /// The cell's quantized network.
    pub quantized: &'a QuantizedNetwork,
}

/// The images of one full-precision pass beside one variant.
pub struct Chunk<'c, 'r> {
    /// Its last full-precision pass is that of these images.
    pub runner: &'c mut (dyn Runner + 'r),
    /// The cell's quantized network.
    pub variant: &'c Variant,
    /// Of the full-precision pass, one vector per image.
    pub outputs: &'c [Vec<f32>],
    /// Indices into the image set.
    pub images: Range<usize>,
    compared: Option<Reduced>,
    seconds: f64,
}

impl<'c, 'r> Chunk<'c, 'r> {
    /// Runs nothing yet; `seconds` are the cell's share of the full-precision pass, and of the one that made `compared`, if
    /// variants shared that.
    pub fn new(
        runner: &'c mut (dyn Runner + 'r),
        variant: &'c Variant,
        outputs: &'c [Vec<f32>],
        images: Range<usize>,
        (compared, seconds): (Option<Reduced>, f64),
    ) -> Self {
        Self {
            runner,
            variant,
            outputs,
            images,
            compared,
            seconds,
        }
    }

    /// The discrepancy at every tap: one pass for all who ask.
    pub fn compared(&mut self) -> Result<&Reduced, EngineError> {
        let compared = match self.compared.take() {
            Some(compared) => compared,
            None => {
                let started = Instant::now();
                let compared = self.runner.compare(self.variant)?;
                self.seconds += started.elapsed().as_secs_f64();
                compared
            }
        };
        Ok(self.compared.insert(compared))
    }

    /// Of engine time: the cell's share of the full-precision pass, and its comparison as far as somebody asked for it.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }
}

/// One table of a study.
pub struct StudyTable {
    /// Stem of the file.
    pub name: &'static str,
    /// Its columns.
    pub schema: SchemaRef,
}

impl StudyTable {
    /// The table of `R`.
    pub fn of<R: Row>() -> Self {
        Self {
            name: R::TABLE,
            schema: R::schema(),
        }
    }
}

/// What a study found out about one part.
pub struct Found {
    /// Rows of every table, in the order of [`Study::tables`].
    pub tables: Vec<RecordBatch>,
    /// Where and how long an engine worked on it, for parts that say so.
    pub meta: Option<PartMeta>,
}

impl From<Vec<RecordBatch>> for Found {
    fn from(tables: Vec<RecordBatch>) -> Self {
        Self { tables, meta: None }
    }
}

/// What all studies have in common.
pub trait Study {
    /// Key in `[studies]`, for those that have one; the stem of its parts.
    fn name(&self) -> &'static str;
    /// Every setting that its rows depend on beside the cell; other settings make its rows anew.
    fn settings(&self, plan: &Plan) -> String;
    /// Hash of the code that its rows depend on beside the cell's: a constant of [`crate::experiment::code`].
    fn code(&self) -> &'static str;
    /// Its tables.
    fn tables(&self) -> Vec<StudyTable>;
    /// Where its rows of a batch, or of a whole cell, are stored.
    fn part(&self, cell: &Cell, plan: &Plan, batch: Option<u32>) -> Part {
        let depends_on = format!("{} {}", self.settings(plan), self.code());
        parts::studied(cell, self.name(), &depends_on, batch)
    }
}

/// A study that needs the full-precision pass of each batch, which all of these share.
pub trait BatchStudy: Study {
    /// Whether it asks for [`Chunk::compared`].
    fn compares(&self) -> bool {
        true
    }
    /// What takes the images of one cell and batch.
    fn begin(&self) -> Box<dyn Collecting>;
}

/// The rows of one cell and batch as they come together, one full-precision pass after the other.
pub trait Collecting {
    /// Takes the images of a chunk.
    fn add(&mut self, subject: &Subject<'_>, chunk: &mut Chunk<'_, '_>) -> Result<(), SweepError>;
    /// All rows of the batch, once it has seen all its images, which are `input`; the first batch is 0.
    fn finish(
        &mut self,
        subject: &Subject<'_>,
        batch: u32,
        input: &Batch,
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Found, SweepError>;
}

/// When a study looks at a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Before anything is measured: what cannot be is said at once.
    First,
    /// After the measurements are stored.
    Last,
}

impl Turn {
    /// Whether the studies of this turn look at the cell on the machine that has this share: those after the measurements
    /// may read all of them.
    pub fn is_here(self, cell: &Cell, share: &Share) -> bool {
        match self {
            Self::First => share.has_bounds(cell.number),
            Self::Last => share.has_studies(cell.number),
        }
    }
}

/// A study that looks at a cell once.
pub trait CellStudy: Study {
    /// When it does.
    fn turn(&self) -> Turn {
        Turn::Last
    }
    /// Rows of every table, in the order of [`Study::tables`].
    fn cell(
        &self,
        subject: &Subject<'_>,
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<RecordBatch>, SweepError>;
    /// How many cells of a network it takes at once.
    fn at_once(&self, _network: &Network) -> usize {
        1
    }
    /// The same of several cells of one model, in their order.
    fn cells(
        &self,
        subjects: &[Subject<'_>],
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Vec<Result<Vec<RecordBatch>, SweepError>> {
        let each = subjects.iter();
        each.map(|s| self.cell(s, context, tell)).collect()
    }
}

/// The rows as one record batch.
pub fn encode<R: Row>(rows: &[R]) -> Result<RecordBatch, SweepError> {
    Ok(store::encode(rows)?)
}
