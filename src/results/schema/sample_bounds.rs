//! The rows of the per-sample bounds.

use super::column::table;

table! {
    /// A bound on one feature map of one image in one cell.
    SampleBoundRow in "sample_bounds" {
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
        /// `sample`, `ball:RADIUS`, `ball-centred:RADIUS` or `sample-stochastic:PROBABILITY`.
        bound: String,
        /// The image's name in its manifest.
        image: String,
        /// As in the measurements.
        depth: u32,
        /// Node name.
        layer: String,
        /// `log10` of the bound on `||y' - y||_inf`; -inf for a bound of exactly 0, +inf for none, NaN where the
        /// reference is not finite.
        log10_bound: f64,
        /// Share of the elements whose own bound is the range of their activation, 0 to 1.
        capped: f64,
        /// `||y' - y||_inf` as measured on this image; NaN when an element of `y` or `y'` is NaN or infinite.
        max_abs_diff: f64,
    }
}
