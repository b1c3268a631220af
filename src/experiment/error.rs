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
    /// A cell that the plan does not have.
    #[error(
        "cell {cell} is none of the {cells} cells of the plan with the networks, images and code that are here: one of \
         them changed since the cell was listed; list the cells again (`quantbound cells`)"
    )]
    Strange {
        /// Its id.
        cell: String,
        /// Cells of the plan.
        cells: usize,
    },
    /// Every cell failed or was skipped.
    #[error("none of {cells} cells could be made; the first: {first}")]
    NoneMade {
        /// Cells of the plan.
        cells: usize,
        /// Which, and why.
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

impl SweepError {
    /// True for what is wrong with one cell or network, so that others can be made all the same; false for a run directory
    /// that cannot be written, images that changed, a device that is gone, a signal.
    pub fn is_of_a_cell(&self) -> bool {
        match self {
            Self::Network(_)
            | Self::Quant(_)
            | Self::Search(_)
            | Self::Tail(_)
            | Self::Bound { .. } => true,
            Self::Engine(error) => !matches!(
                error,
                EngineError::Lost { .. } | EngineError::NoAdapter { .. }
            ),
            Self::Plan(_)
            | Self::Data(_)
            | Self::Store(_)
            | Self::Identity(_)
            | Self::Stopped { .. }
            | Self::Unmade { .. }
            | Self::Strange { .. }
            | Self::NoneMade { .. } => false,
        }
    }
}
