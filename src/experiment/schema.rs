//! What a run directory holds: the rows of its Parquet tables and its summary. `results/schema.md` says the
//! same for readers in other languages.

mod column;
mod dynamics;
mod rows;
mod summary;

pub use column::{Column, Row, RowError};
pub use dynamics::{DynamicsChannelRow, DynamicsHistogramRow, DynamicsRow};
pub use rows::{BoundRow, CellKey, MeasurementRow, OutputRow};
pub use summary::{
    BoundAt, CellSummary, FinalLayer, Finding, OutputSummary, SCHEMA_VERSION, Summary,
    VerdictCounts, VerdictsOf,
};

/// Names of the files of a finished run.
pub mod file {
    /// The plan the run was made from.
    pub const PLAN: &str = "plan.toml";
    /// Devices, versions, hashes.
    pub const PROVENANCE: &str = "provenance.json";
    /// [`super::MeasurementRow`]s.
    pub const MEASUREMENTS: &str = "measurements.parquet";
    /// [`super::OutputRow`]s.
    pub const OUTPUTS: &str = "outputs.parquet";
    /// [`super::BoundRow`]s.
    pub const BOUNDS: &str = "bounds.parquet";
    /// [`super::Summary`].
    pub const SUMMARY: &str = "summary.json";
    /// Finished batches of cells, while a sweep runs and for later resumes.
    pub const PARTS: &str = "parts";
}
