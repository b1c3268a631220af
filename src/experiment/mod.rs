//! A sweep: a plan becomes cells, each cell a set of measurements, bounds and verdicts.

pub mod calibration;
pub mod cell;
pub mod diagnosis;
pub mod dynamics;
pub mod measure;
pub mod model;
mod pass;
pub mod plan;
pub mod provenance;
pub mod quantizers;
pub mod saved;
pub mod schema;
pub mod store;
pub mod studies;
pub mod summary;
pub mod sweep;
pub mod variants;
pub mod verdict;
