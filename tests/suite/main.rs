//! All tests of the crate's outside, a folder per room of the house; one binary, so that everything is linked once.

mod answers;
mod bounds;
mod cli;
mod common;
mod data;
mod docs;
mod engine;
mod experiment;
mod hub;
mod json;
mod layering;
mod network;
mod quant;
mod report;
mod results;
