//! Rows of the isolated mode.

use super::column::table;

table! {
    /// One layer of one image in one cell, quantized alone while everything else stays in full precision.
    IsolatedRow in "isolated" {
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
        /// The image's name.
        image: String,
        /// 1-based count of the layer that is quantized.
        depth: u32,
        /// Its node name.
        layer: String,
        /// `||y' - y||_inf` of the layer's own output; NaN when an element is NaN or infinite.
        max_abs_diff: f64,
        /// `||y' - y||_2` there.
        l2_diff: f64,
        /// Mean of `|y' - y|` there.
        mean_abs_diff: f64,
        /// `20 log10(||y||_2 / ||y' - y||_2)` there, +inf when nothing differs; null when `y` is zero too.
        sqnr_db: Option<f64>,
        /// `||y' - y||_inf` of the network's output; NaN when an element is NaN or infinite.
        output_max_abs_diff: f64,
        /// `||y' - y||_2` of the network's output.
        output_l2_diff: f64,
        /// `KL(softmax(y) || softmax(y'))` of the output in nats; null when it is no vector of logits.
        kl: Option<f64>,
    }
}
