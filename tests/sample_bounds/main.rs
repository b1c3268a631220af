//! Per-sample bounds on every engine: never under a measurement, and what a literal evaluation of the theorem gives.

#[path = "../common/mod.rs"]
mod common;

mod by_hand;
mod case;
mod literal;
mod soundness;
