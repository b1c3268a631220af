//! The rows of the search for the worst input.

use super::column::table;

table! {
    /// What one method found in one cell.
    SearchRow in "search" {
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
        /// `gradient` (projected gradient ascent) or `square` (square attack; `free` in older runs).
        method: String,
        /// As in [`MeasurementRow::depth`](super::MeasurementRow::depth).
        depth: u32,
        /// Node name.
        layer: String,
        /// Of all random choices.
        seed: u32,
        /// Inputs evaluated, beside the images.
        evaluations: u32,
        /// What the worst input grew from.
        start: String,
        /// `||y' - y||_inf` at the worst input, as the method's engine has it.
        max_abs_diff: f64,
        /// The same in f64.
        max_abs_diff_f64: f64,
        /// What the same is at least in real arithmetic: in f64, less all that rounding may have made.
        max_abs_diff_at_least: f64,
        /// The largest over the images, in f64 of the image that the engine found worst.
        natural_max_abs_diff: f64,
        /// Bounds that are not below `max_abs_diff_f64`.
        holds: u32,
        /// Bounds that are, by no more than rounding in f64 may have made.
        undecided: u32,
        /// Bounds that are below `max_abs_diff_at_least`: an error in a bound.
        violated: u32,
        /// Bounds that could not be compared.
        invalid: u32,
        /// Bounds, not counting `invalid`, less than ten times as large as `max_abs_diff_f64`.
        within_decade: u32,
        /// The smallest `log10(bound / max_abs_diff_f64)`; null where there is none.
        smallest_slack: Option<f64>,
    }
}

table! {
    /// One evaluation of a search, in order.
    SearchTraceRow in "search_trace" {
        /// The cell.
        cell_id: String,
        /// `gradient` (projected gradient ascent) or `square` (square attack; `free` in older runs).
        method: String,
        /// From 1.
        evaluation: u32,
        /// What the input grew from.
        start: String,
        /// `||y' - y||_inf` of this input; NaN when an element was not finite.
        max_abs_diff: f64,
        /// The largest so far, the images' included.
        best: f64,
    }
}
