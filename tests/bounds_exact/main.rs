//! Bounds against exact arithmetic: numbers `m 2^e` of any size.

#[path = "../common/checker.rs"]
mod checker;
#[path = "../common/dyadic.rs"]
mod dyadic;
#[path = "../common/naive.rs"]
mod naive;
#[path = "../common/random_network.rs"]
mod random_network;

mod enclosed;
mod linear;
