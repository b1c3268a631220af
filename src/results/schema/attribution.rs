//! Rows of the attribution study.

use super::column::table;

table! {
    /// One layer of one image in one cell: what comes in as error and what the layer adds. Before its activation
    /// `u' - u = W' (y'_in - y_in) + ((W' - W) y_in + b' - b)`, carried plus fresh.
    AttributionRow in "attribution" {
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
        /// 1-based count of the layer.
        depth: u32,
        /// Its node name.
        layer: String,
        /// `||y'_in - y_in||_2` of what the layer reads.
        input_l2: f64,
        /// `||W' (y'_in - y_in)||_2`.
        carried_l2: f64,
        /// `||(W' - W) y_in + b' - b||_2`.
        fresh_l2: f64,
        /// `||u' - u||_2`.
        total_l2: f64,
        /// Cosine of the angle between carried and fresh; null where one of them is zero.
        cosine: Option<f64>,
        /// `||W' (y'_in - y_in)||_inf / ||y'_in - y_in||_inf`, the realized gain; null where nothing comes in.
        gain: Option<f64>,
        /// `||W'||` from inf to inf, the gain that a bound over all inputs must use.
        norm: f64,
        /// `||y' - y||_2 / ||u' - u||_2`: what the activation lets through; null where the layer's output does not differ
        /// before it.
        passed: Option<f64>,
        /// G: what this layer and all before it make, each carried on by the gains that it met, added up; at least
        /// `||y' - y||_2` behind the activation.
        chain_l2: f64,
    }
}
