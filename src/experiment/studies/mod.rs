//! Studies: what a sweep finds out about a cell beside its discrepancies and bounds.
//!
//! A plan turns them on in `[studies]`. Each study is one file here, has one or more tables of its own, and is
//! stored per cell (or per cell and batch) as it is made, so that a killed sweep goes on where it was.

pub mod bounds;
pub mod dynamics;
pub mod guarantees;
pub mod isolated;
pub mod measure;
pub mod rescaling;
pub mod sample_bounds;
pub mod search;

use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};

use self::sample_bounds::SampleBounds;
use crate::engine::{EngineError, Reduced, Runner, Variant};
use crate::experiment::cell::Cell;
use crate::experiment::derive::tails::Tails;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::Plan;
use crate::experiment::subject::context::{Given, ModelContext};
use crate::experiment::subject::model::LoadedModel;
use crate::quant::QuantizedNetwork;
use crate::results::schema::{Row, TailRow};
use crate::results::store;

/// `[studies]` of a plan; a study runs where its key is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Studies {
    /// Bounds from the activations of each image.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sample: bool,
    /// The same for every image within these distances.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ball: Vec<f64>,
    /// Whether what the quantizers' papers promise is checked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub guarantees: bool,
    /// See [`search`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<search::Search>,
    /// Each layer quantized alone: see [`isolated`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// Bounds by parametrization: see [`rescaling`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rescale: bool,
    /// Distributions of weights and activations, layer by layer and channel by channel.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dynamics: bool,
    /// Statements for most images: see [`Tails`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tails: Option<Tails>,
}

impl Studies {
    /// Keys of the table.
    pub const KEYS: &[&str] = &[
        "sample",
        "ball",
        "isolated",
        "search",
        "dynamics",
        "guarantees",
        "rescale",
        "tails",
    ];
    /// Stems of the tables of all studies, `<stem>.parquet` in a finished run.
    pub const TABLES: &[&str] = &[
        sample_bounds::TABLE,
        isolated::TABLE,
        search::TABLE,
        search::TRACE,
        dynamics::LAYERS,
        dynamics::CHANNELS,
        dynamics::HISTOGRAMS,
        guarantees::TABLE,
        rescaling::TABLE,
        TailRow::TABLE,
    ];

    /// Studies of a batch that the plan asks for.
    pub fn of_batches(&self) -> Vec<Box<dyn BatchStudy>> {
        let mut studies: Vec<Box<dyn BatchStudy>> = Vec::new();
        if let Some(study) = SampleBounds::of(self.sample, &self.ball) {
            studies.push(Box::new(study));
        }
        if self.isolated {
            studies.push(Box::new(isolated::IsolatedStudy));
        }
        studies
    }

    /// Studies of a whole cell that the plan asks for.
    pub fn of_cells(&self) -> Vec<Box<dyn CellStudy>> {
        let mut studies: Vec<Box<dyn CellStudy>> = Vec::new();
        if self.guarantees {
            studies.push(Box::new(guarantees::Guarantees));
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

    /// Says what is wrong with the settings.
    pub fn check(&self) -> Result<(), String> {
        SampleBounds::check(&self.ball)?;
        self.tails.map_or(Ok(()), |t| t.check())?;
        if self.search.is_some_and(|s| s.budget == 0) {
            return Err("search.budget = 0: a search evaluates at least one input".into());
        }
        Ok(())
    }

    /// For leaving the table out of a stored plan.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
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
}

impl<'c, 'r> Chunk<'c, 'r> {
    /// Runs nothing yet.
    pub fn new(
        runner: &'c mut (dyn Runner + 'r),
        variant: &'c Variant,
        outputs: &'c [Vec<f32>],
        images: Range<usize>,
    ) -> Self {
        Self {
            runner,
            variant,
            outputs,
            images,
            compared: None,
        }
    }

    /// The discrepancy at every tap: one pass for all who ask.
    pub fn compared(&mut self) -> Result<&Reduced, EngineError> {
        let compared = match self.compared.take() {
            Some(compared) => compared,
            None => self.runner.compare(self.variant)?,
        };
        Ok(self.compared.insert(compared))
    }
}

/// One table of a study.
pub struct StudyTable {
    /// Stem of the file, one of [`Studies::TABLES`].
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

/// What all studies have in common.
pub trait Study {
    /// Key in `[studies]`.
    fn name(&self) -> &'static str;
    /// Every setting that its rows depend on beside the cell; other settings make its rows anew.
    fn settings(&self, plan: &Plan) -> String;
    /// Hash of the code that its rows depend on beside the cell's: a constant of [`crate::experiment::code`].
    fn code(&self) -> &'static str;
    /// Its tables.
    fn tables(&self) -> Vec<StudyTable>;
}

/// A study that needs the full-precision pass of each batch, which it shares with the measurement.
pub trait BatchStudy: Study {
    /// Rows of every table, in the order of [`Study::tables`], for the images of the chunk.
    fn batch(
        &self,
        subject: &Subject<'_>,
        chunk: &mut Chunk<'_, '_>,
    ) -> Result<Vec<RecordBatch>, SweepError>;
}

/// A study that looks at a cell once, after its measurements are stored.
pub trait CellStudy: Study {
    /// Rows of every table, in the order of [`Study::tables`].
    fn cell(
        &self,
        subject: &Subject<'_>,
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<RecordBatch>, SweepError>;
}

/// The rows as one record batch.
pub fn encode<R: Row>(rows: &[R]) -> Result<RecordBatch, SweepError> {
    Ok(store::encode(rows)?)
}
