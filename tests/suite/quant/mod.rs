//! Every quantizer against a literal reference, what it promises, and what becomes of it in plans, files and sweeps.

mod calibration;
mod compared;
mod equalize;
mod guarantees;
mod imported;
mod learned;
mod path;
mod plan;
mod ranges;
mod rex;
mod saved;
mod saved_networks;
mod sweep;
mod uniform;
