//! Rows of the parametrization study.

use super::CellKey;
use super::column::table;

table! {
    /// One bound of one cell after layer `depth`, in one parametrization.
    RescalingRow in "rescaling" {
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
        /// `none`, `equalize` or `optimal`.
        rescale: String,
        /// Bound id; `norm-product` and `path-norm`, at the last depth alone, are gains and no bounds.
        bound: String,
        /// 1-based count of parametric layers up to here.
        depth: u32,
        /// Node name.
        layer: String,
        /// `log10` of the bound in the network's own units; -inf for a bound of exactly zero.
        log10_bound: f64,
    }
}

impl CellKey {
    /// A row of this cell.
    pub fn rescaling(
        &self,
        rescale: &str,
        bound: &str,
        (depth, layer): (u32, &str),
        log10_bound: f64,
    ) -> RescalingRow {
        RescalingRow {
            cell_id: self.cell_id.clone(),
            model: self.model.clone(),
            quantizer: self.quantizer.clone(),
            bits: self.bits,
            granularity: self.granularity.name().to_string(),
            rescale: rescale.to_string(),
            bound: bound.to_string(),
            depth,
            layer: layer.to_string(),
            log10_bound,
        }
    }
}
