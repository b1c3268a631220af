//! Per-sample bounds on every engine: never under a measurement, and what a literal evaluation of the theorem gives.

mod by_hand;
pub mod case;
mod centred;
mod dice;
mod literal;
mod soundness;
