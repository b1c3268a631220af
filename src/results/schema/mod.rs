//! What a run directory holds: the rows of its Parquet tables and its summary. `results/schema.md` says the
//! same for readers in other languages.

mod attribution;
mod column;
mod derived;
mod dynamics;
mod dynamics_totals;
pub mod float;
mod guarantees;
mod isolated;
mod rescaling;
mod rows;
mod sample_bounds;
mod search;
mod summary;
mod tails;

use arrow_schema::SchemaRef;

pub use attribution::AttributionRow;
pub use column::{Column, Row, RowError, conform};
pub use derived::{LedgerRow, RequiredBitsRow};
pub use dynamics::{ACTIVATIONS, DynamicsChannelRow, DynamicsHistogramRow, DynamicsRow, WEIGHTS};
pub use dynamics_totals::{KINDS, KindTotals, db_per_layer, mean, totals};
pub use guarantees::GuaranteeRow;
pub use isolated::IsolatedRow;
pub use rescaling::RescalingRow;
pub use rows::{BoundRow, CellKey, MeasurementRow, OutputRow};
pub use sample_bounds::SampleBoundRow;
pub use search::{SearchRow, SearchTraceRow};
pub use summary::{
    BoundAt, CellSummary, FinalLayer, Finding, OutputSummary, Pace, SCHEMA_VERSION, Summary,
    VerdictCounts, VerdictsOf,
};

pub use tails::TailRow;

/// Every table of a run: the stem of its file and its columns.
pub fn tables() -> Vec<(&'static str, SchemaRef)> {
    fn table<R: Row>() -> (&'static str, SchemaRef) {
        (R::TABLE, R::schema())
    }
    vec![
        table::<MeasurementRow>(),
        table::<OutputRow>(),
        table::<BoundRow>(),
        table::<SampleBoundRow>(),
        table::<IsolatedRow>(),
        table::<AttributionRow>(),
        table::<SearchRow>(),
        table::<SearchTraceRow>(),
        table::<DynamicsRow>(),
        table::<DynamicsChannelRow>(),
        table::<DynamicsHistogramRow>(),
        table::<GuaranteeRow>(),
        table::<RescalingRow>(),
        table::<LedgerRow>(),
        table::<RequiredBitsRow>(),
        table::<TailRow>(),
    ]
}

/// Names of the files of a finished run.
pub mod file {
    /// The plan the run was made from.
    pub const PLAN: &str = "plan.toml";
    /// The plan with every default filled in.
    pub const RESOLVED: &str = "plan.resolved.toml";
    /// Devices, versions, hashes.
    pub const PROVENANCE: &str = "provenance.json";
    /// What became of every cell.
    pub const CELLS: &str = "cells.json";
    /// [`super::MeasurementRow`]s.
    pub const MEASUREMENTS: &str = "measurements.parquet";
    /// [`super::OutputRow`]s.
    pub const OUTPUTS: &str = "outputs.parquet";
    /// [`super::BoundRow`]s.
    pub const BOUNDS: &str = "bounds.parquet";
    /// Bounds per image; there where that study ran.
    pub const SAMPLE_BOUNDS: &str = "sample_bounds.parquet";
    /// The worst inputs found; there where that study ran.
    pub const SEARCH: &str = "search.parquet";
    /// [`super::LedgerRow`]s.
    pub const LEDGER: &str = "ledger.parquet";
    /// [`super::RequiredBitsRow`]s.
    pub const REQUIRED_BITS: &str = "required_bits.parquet";
    /// [`super::TailRow`]s; there where the plan asks for them.
    pub const TAILS: &str = "tails.parquet";
    /// Bits that theorems ask for, as they were found: a later sweep of the directory takes them from here.
    pub const THEOREMS: &str = "theorems.json";
    /// [`super::Summary`].
    pub const SUMMARY: &str = "summary.json";
    /// Finished batches of cells, while a sweep runs and for later resumes.
    pub const PARTS: &str = "parts";
}
