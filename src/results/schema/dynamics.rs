//! The rows of the dynamics study: how weights and activations are distributed, in full precision and quantized.

use super::column::table;

/// The tensor of a row that speaks of a layer's kernel.
pub const WEIGHTS: &str = "weights";
/// The tensor of a row that speaks of a layer's output.
pub const ACTIVATIONS: &str = "activations";

table! {
    /// One layer's weights or activations in one cell. Where a value of either network is not finite, every number but
    /// the counts is NaN.
    DynamicsRow in "dynamics" {
        /// The cell.
        cell_id: String,
        /// Architecture.
        model: String,
        /// `Quantizer::name`.
        quantizer: String,
        /// Bit width of the weights.
        bits: u32,
        /// `per-tensor` or `per-channel`.
        granularity: String,
        /// 1-based count of parametric layers up to here.
        depth: u32,
        /// Node name.
        layer: String,
        /// `regular`, `depthwise`, `pointwise` or `linear`.
        kind: String,
        /// `weights` or `activations` (the layer's output, over all images).
        tensor: String,
        /// Output channels.
        channels: u32,
        /// Of them, those whose full-precision values are all the same.
        dead_channels: u32,
        /// Smallest, full precision.
        min: f64,
        /// Largest, full precision.
        max: f64,
        /// Mean, full precision.
        mean: f64,
        /// Standard deviation, full precision.
        std: f64,
        /// Mean over channels of `p_i = r_i / R`, ranges of channel and layer, full precision.
        precision: f64,
        /// Mean over live channels of `log2(R / r_i)`: bits that a channel loses on the layer's grid.
        mismatch: f64,
        /// Standard deviation over live channels of `log2 r_i`, in octaves.
        fluctuation: f64,
        /// As above, quantized.
        q_min: f64,
        /// As above, quantized.
        q_max: f64,
        /// As above, quantized.
        q_mean: f64,
        /// As above, quantized.
        q_std: f64,
        /// As above, quantized.
        q_precision: f64,
        /// As above, quantized.
        q_mismatch: f64,
        /// Mean of `(x' - x)^2`.
        mse: f64,
        /// `10 log10(sum x^2 / sum (x' - x)^2)`; `+inf` when nothing differs.
        sqnr_db: f64,
        /// `-sum p ln q` of the smoothed histograms, full precision `p` and quantized `q`, in nats.
        cross_entropy: f64,
        /// `sum p ln(p / q)`, likewise.
        kl: f64,
    }
}

table! {
    /// One channel of a layer's weights or activations in one cell.
    DynamicsChannelRow in "dynamics_channels" {
        /// The cell.
        cell_id: String,
        /// Architecture.
        model: String,
        /// `Quantizer::name`.
        quantizer: String,
        /// Bit width of the weights.
        bits: u32,
        /// `per-tensor` or `per-channel`.
        granularity: String,
        /// As in [`DynamicsRow`].
        depth: u32,
        /// Node name.
        layer: String,
        /// As in [`DynamicsRow`].
        kind: String,
        /// As in [`DynamicsRow`].
        tensor: String,
        /// Output channel, from 0.
        channel: u32,
        /// Smallest, full precision.
        min: f64,
        /// Largest, full precision.
        max: f64,
        /// Mean, full precision.
        mean: f64,
        /// Standard deviation, full precision.
        std: f64,
        /// `p_i`, full precision.
        precision: f64,
        /// As above, quantized.
        q_min: f64,
        /// As above, quantized.
        q_max: f64,
        /// As above, quantized.
        q_mean: f64,
        /// As above, quantized.
        q_std: f64,
        /// As above, quantized.
        q_precision: f64,
        /// Mean of `(x' - x)^2`.
        mse: f64,
    }
}

table! {
    /// One cell of a layer's histograms: values in `[lo, hi)`.
    DynamicsHistogramRow in "dynamics_histograms" {
        /// The cell.
        cell_id: String,
        /// Architecture.
        model: String,
        /// `Quantizer::name`.
        quantizer: String,
        /// Bit width of the weights.
        bits: u32,
        /// `per-tensor` or `per-channel`.
        granularity: String,
        /// As in [`DynamicsRow`].
        depth: u32,
        /// Node name.
        layer: String,
        /// As in [`DynamicsRow`].
        tensor: String,
        /// Lower edge, a multiple of a power of two; `-inf` for what lies below the full-precision range.
        lo: f64,
        /// Upper edge; `+inf` likewise.
        hi: f64,
        /// Full-precision values, a whole number.
        count: f64,
        /// Quantized values, a whole number.
        q_count: f64,
    }
}
