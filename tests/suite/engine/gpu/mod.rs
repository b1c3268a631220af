//! Kernels, statistics and limits of the GPU engine. Needs an adapter, a software one included, and fails without.

mod adversity;
mod device;
mod kernels;
mod statistics;
mod tuning;
