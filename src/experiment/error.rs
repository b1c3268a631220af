//! What stops a sweep.

use super::cell::IdentityError;
use super::plan::PlanError;
use super::search::SearchError;
use crate::bounds::BoundError;
use crate::bounds::probabilistic::TailError;
use crate::data::DataError;
use crate::engine::EngineError;
use crate::network::NetworkError;
use crate::quant::QuantError;
use crate::results::store::StoreError;

/// Whatever stops a sweep; finished parts stay on disk and the same command goes on from them.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// See [`NetworkError`].
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// See [`DataError`].
    #[error(transparent)]
    Data(#[from] DataError),
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`QuantError`].
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See [`IdentityError`].
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// See [`SearchError`].
    #[error(transparent)]
    Search(#[from] SearchError),
    /// Numbers that no statement for most images can be made of.
    #[error(transparent)]
    Tail(#[from] TailError),
    /// A signal asked to stop.
    #[error(
        "stopped by signal {signal}: every finished part is stored in {dir}; run the same command again to go on"
    )]
    Stopped {
        /// Its number.
        signal: usize,
        /// The run directory.
        dir: std::path::PathBuf,
    },
    /// Parts that no machine made.
    #[error(
        "{missing} of {parts} parts are in none of the directories, the first of them {first}; run the shard that \
         makes it (`sweep --shard`) again, then merge again"
    )]
    Unmade {
        /// How many.
        missing: usize,
        /// Parts of the plan.
        parts: usize,
        /// The cell, and what of it.
        first: String,
    },
    /// A bound that a plan asked for cannot be stated for a network.
    #[error("{model}: {source}")]
    Bound {
        /// Architecture.
        model: String,
        /// The assumption that fails.
        source: BoundError,
    },
}
