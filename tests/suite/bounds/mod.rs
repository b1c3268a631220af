//! Every bound of the ladder: by hand, in exact arithmetic, and against measurements.

mod by_hand;
mod checker;
mod enclosure;
mod exact;
mod facts;
mod grids;
mod kept_norms;
mod probabilistic;
mod rescaling;
mod soundness;
mod structures;
mod worked;
