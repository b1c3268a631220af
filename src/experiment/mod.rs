//! A sweep: a plan becomes cells, each cell a set of measurements, bounds and verdicts.

pub mod augment;
pub mod calibration;
pub mod cell;
pub mod code;
mod derived;
pub mod diagnosis;
pub mod dynamics;
pub mod judge;
pub mod ledger;
pub mod measure;
mod method;
pub mod model;
pub mod parts;
mod pass;
pub mod path_norm;
pub mod plan;
mod provenance;
mod quantizer_spec;
mod quantizers;
pub mod required_bits;
pub mod saved;
pub mod search;
pub mod sensitivity;
pub mod studies;
pub mod summary;
pub mod sweep;
pub mod variants;
