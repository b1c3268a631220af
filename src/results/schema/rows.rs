//! The rows of the three tables.

use super::column::table;
use crate::quant::Granularity;

table! {
    /// One feature map of one image in one cell: how far `y'` is from `y` after layer `depth`.
    MeasurementRow in "measurements" {
        /// The cell, as the plan's hash names it.
        cell_id: String,
        /// Architecture.
        model: String,
        /// `Quantizer::name`.
        quantizer: String,
        /// Bit width of the weights.
        bits: u32,
        /// `per-tensor` or `per-channel`.
        granularity: String,
        /// `accumulated`: all layers up to here quantized; `isolated`: this layer alone.
        mode: String,
        /// The image's name in its manifest.
        image: String,
        /// Class of the image; null without a label.
        label: Option<u32>,
        /// 1-based count of parametric layers up to here; the largest one is the output's.
        depth: u32,
        /// Node name.
        layer: String,
        /// `||y' - y||_inf`; NaN when an element of `y` or `y'` is NaN or infinite.
        max_abs_diff: f64,
        /// `||y' - y||_2`, over finite elements.
        l2_diff: f64,
        /// Mean of `|y' - y|`, over all elements.
        mean_abs_diff: f64,
        /// `||y||_inf`, over finite elements.
        ref_max_abs: f64,
        /// `||y||_2`, over finite elements.
        ref_l2: f64,
        /// `20 log10(||y||_2 / ||y' - y||_2)`, +inf when nothing differs; null when `y` is zero too.
        sqnr_db: Option<f64>,
        /// Flat CHW index of the largest difference.
        argmax: u32,
        /// `|max_abs_diff - the same in f64|`, the floating-point share; null where not evaluated in f64.
        fp_allowance: Option<f64>,
    }
}

table! {
    /// The output of one image in one cell.
    OutputRow in "outputs" {
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
        /// Class of the image; null without a label.
        label: Option<u32>,
        /// Largest logit in full precision; null when the output is no vector of logits.
        top1_ref: Option<u32>,
        /// Largest logit of the quantized network; null likewise.
        top1_quant: Option<u32>,
        /// `KL(softmax(y) || softmax(y'))` in nats; null likewise.
        kl: Option<f64>,
        /// `||y' - y||_inf` over the output vector; NaN when an element is NaN or infinite.
        max_abs_diff: f64,
        /// Largest logit of full precision less the second largest; null when there are no two, or one is NaN.
        ref_margin: Option<f64>,
    }
}

table! {
    /// One bound at one depth of one cell, in f64 rounded upward.
    BoundRow in "bounds" {
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
        /// Id of the bound in the registry.
        bound: String,
        /// As in [`MeasurementRow::depth`].
        depth: u32,
        /// Node name.
        layer: String,
        /// `log10` of the bound on `||y' - y||_inf`; -inf for a bound of exactly 0, +inf for none.
        log10_bound: f64,
    }
}

/// The columns that all rows of a cell share.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CellKey {
    /// Content hash, also a directory name: letters, digits, `-`, `_` and `.`.
    pub cell_id: String,
    /// Architecture.
    pub model: String,
    /// `Quantizer::name`.
    pub quantizer: String,
    /// Bit width of the weights.
    pub bits: u32,
    /// Scales per tensor or per channel.
    pub granularity: Granularity,
}

impl CellKey {
    /// `mobilenet_v2 uniform-symmetric 8 bit per-channel`.
    pub fn title(&self) -> String {
        format!(
            "{} {} {} bit {}",
            self.model,
            self.quantizer,
            self.bits,
            self.granularity.name()
        )
    }

    /// The output of one image, without class statistics.
    pub fn output(&self, image: &str, label: Option<u32>, max_abs_diff: f64) -> OutputRow {
        OutputRow {
            cell_id: self.cell_id.clone(),
            model: self.model.clone(),
            quantizer: self.quantizer.clone(),
            bits: self.bits,
            granularity: self.granularity.name().to_string(),
            image: image.to_string(),
            label,
            top1_ref: None,
            top1_quant: None,
            kl: None,
            max_abs_diff,
            ref_margin: None,
        }
    }

    /// A bound at `depth`, `layer`.
    pub fn bound(&self, bound: &str, depth: u32, layer: &str, log10_bound: f64) -> BoundRow {
        BoundRow {
            cell_id: self.cell_id.clone(),
            model: self.model.clone(),
            quantizer: self.quantizer.clone(),
            bits: self.bits,
            granularity: self.granularity.name().to_string(),
            bound: bound.to_string(),
            depth,
            layer: layer.to_string(),
            log10_bound,
        }
    }
}
