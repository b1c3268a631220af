//! Rows that follow from the other tables of a finished run.

use super::column::table;

table! {
    /// One step between two quantities of a cell at one depth: what is lost from the tighter to the looser.
    LedgerRow in "ledger" {
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
        /// As in `MeasurementRow::depth`.
        depth: u32,
        /// Node name.
        layer: String,
        /// Place in the ledger, 1 for the loosest.
        place: u32,
        /// What the looser quantity gives away.
        step: String,
        /// The looser quantity: a bound's id.
        from_id: String,
        /// The tighter quantity: a bound's id, `sample`, `search` or `measured`.
        to_id: String,
        /// `log10` of the looser quantity.
        from_log10: f64,
        /// `log10` of the tighter quantity.
        to_log10: f64,
        /// `from_log10 - to_log10`; negative where the order of the two is not a theorem and came out reversed.
        decades: f64,
    }
}

table! {
    /// The smallest bit width at which a quantity stays under a tolerance, at one depth.
    RequiredBitsRow in "required_bits" {
        /// Architecture.
        model: String,
        /// `Quantizer::name`.
        quantizer: String,
        /// `per-tensor` or `per-channel`.
        granularity: String,
        /// A bound's id, `measured`, `tail`, or `sample`.
        quantity: String,
        /// On `||y' - y||_inf`.
        tolerance: f64,
        /// As in `MeasurementRow::depth`.
        depth: u32,
        /// Node name.
        layer: String,
        /// Bits; null where the sweep's widths do not suffice and nothing is known beyond them.
        bits: Option<u32>,
        /// `measured`, `tail`, `sample` or `bound`: read off the cells of the sweep; `a-priori`: a theorem in the bit width;
        /// `extrapolated`: each bit beyond the sweep's widest taken to halve the bound.
        kind: String,
        /// The narrowest bit width of the sweep: fewer bits may do where `bits` equals it.
        swept_from: u32,
        /// The widest bit width of the sweep.
        swept_to: u32,
    }
}
