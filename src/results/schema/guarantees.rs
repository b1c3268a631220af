//! The table of the study of guarantees.

use super::column::table;

table! {
    /// One promise of a quantizer's paper beside what was measured.
    GuaranteeRow in "guarantees" {
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
        /// Id of the promise; `docs/quantizers.md` states them.
        guarantee: String,
        /// Node name, or `gaussian` for made-up layers.
        layer: String,
        /// Output channel; null for a whole layer.
        neuron: Option<u32>,
        /// What `value` is: `fan-in`, `orders`, `seeds`, or `layers` of a fit.
        setting: String,
        /// The setting's value.
        value: f64,
        /// Upper bound, or a fit's slope in theory; null where nothing is promised.
        promised: Option<f64>,
        /// What was found, in the unit of `promised`.
        measured: f64,
        /// Of `measured`; null for what is not random.
        standard_error: Option<f64>,
        /// `holds`, `violated`, `does-not-apply` where an assumption fails, or `observed` where nothing is promised.
        verdict: String,
    }
}
