//! Kernels, statistics and limits of the GPU engine. Needs an adapter, a software one included, and fails without.

#[path = "../common/gpu_checks.rs"]
mod gpu_checks;
#[path = "../common/gpu_problems.rs"]
mod gpu_problems;
#[allow(dead_code)]
#[path = "../common/naive.rs"]
mod naive;

mod device;
mod kernels;
mod statistics;
