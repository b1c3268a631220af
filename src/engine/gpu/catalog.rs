//! All kernels, for those who look at each.

use super::library::Code;
use super::{
    add, channels, collect, compare, concat, conv, conv_lanes, conv_tiled, depthwise,
    depthwise_block, extent, flatten, function, gemm, gemm_lanes, gemm_tiled, global_pool,
    histogram, moments, pool, probe_copy, probe_fma, product, quantize, response_norm, sample,
    sum_parts,
};

/// Every kernel.
pub fn kernels() -> Vec<&'static Code> {
    vec![
        &add::KERNEL.code,
        &channels::KERNEL.code,
        &collect::KERNEL.code,
        &compare::KERNEL.code,
        &concat::KERNEL.code,
        &conv::KERNEL.code,
        &conv_lanes::KERNEL.code,
        &conv_tiled::KERNEL.code,
        &depthwise::KERNEL.code,
        &depthwise_block::KERNEL.code,
        &extent::KERNEL.code,
        &flatten::KERNEL.code,
        &function::KERNEL.code,
        &gemm::KERNEL.code,
        &gemm_lanes::KERNEL.code,
        &gemm_tiled::KERNEL.code,
        &global_pool::KERNEL.code,
        &histogram::KERNEL.code,
        &moments::KERNEL.code,
        &pool::KERNEL.code,
        &probe_copy::KERNEL.code,
        &probe_fma::KERNEL.code,
        &product::KERNEL.code,
        &quantize::KERNEL.code,
        &response_norm::KERNEL.code,
        &sample::KERNEL.code,
        &sum_parts::KERNEL.code,
    ]
}
