//! A sweep: a plan becomes cells, each cell a set of measurements, bounds and verdicts.

pub mod cell;
pub mod code;
pub mod comparison;
pub mod derive;
pub mod dynamics;
pub mod error;
pub mod event;
pub mod logits;
pub mod parts;
pub mod plan;
mod provenance;
pub mod search;
pub mod share;
pub mod studies;
pub mod subject;
pub mod sweep;
