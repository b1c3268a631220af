//! The looseness ledger: `log10(bound / measured)` of a cell, split into the steps of the ladder.

use crate::facts;
use crate::results::schema::{CellKey, LedgerRow};

const DOMAIN: &str = "the whole domain for these images";
const TRIANGLE: &str = "errors that cancel (triangle inequality)";
const UNFOUND: &str = "errors that cancel, inputs not found";
const IMAGES: &str = "the worst input found, for these images";

/// What is known of one cell at one depth, as `log10` of `max |y' - y|`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// `(id, bound)`
    pub bounds: Vec<(String, f64)>,
    /// The largest per-sample bound over the images.
    pub sample: Option<f64>,
    /// The largest discrepancy that a search of the domain has found.
    pub search: Option<f64>,
    /// The largest discrepancy measured on the images.
    pub measured: f64,
    /// The tail of one depth's discrepancy, where the coverage asked for is stated (docs/bounds.md, T1).
    pub tail: Option<f64>,
}

/// `(what is lost, quantity)` from the loosest to the measurement; bounds that were not evaluated, or say nothing,
/// leave what they would have separated in one step.
fn quantities(known: &Known) -> Vec<(String, &str, f64)> {
    let mut found: Vec<(String, &str, f64)> = Vec::new();
    let mut lost: Vec<String> = Vec::new();
    // Bounds from the loosest to the sharpest, each with what the one before it gives away against it.
    for (id, step) in facts::ALL.iter().filter_map(|f| Some((f.id, f.rung?))) {
        if !found.is_empty() {
            lost.push(step.to_string());
        }
        let bound = known.bounds.iter().find(|(known, _)| known == id);
        if let Some(&(_, log10)) = bound.filter(|(_, log10)| log10.is_finite()) {
            found.push((lost.join("; "), id, log10));
            lost.clear();
        }
    }
    if found.is_empty() {
        return found;
    }
    // Rungs past the last one evaluated are lost too.
    let mut tail = |step: &str, id: &'static str, log10: f64| {
        lost.push(step.to_string());
        found.push((lost.join("; "), id, log10));
        lost.clear();
    };
    let finite = |x: Option<f64>| x.filter(|v| v.is_finite());
    match (finite(known.sample), finite(known.search)) {
        (None, None) => tail(&format!("{DOMAIN}; {TRIANGLE}"), "measured", known.measured),
        (Some(sample), None) => {
            tail(DOMAIN, facts::SAMPLE.id, sample);
            tail(TRIANGLE, "measured", known.measured);
        }
        (None, Some(search)) => {
            tail(UNFOUND, "search", search);
            tail(IMAGES, "measured", known.measured);
        }
        // A bound on these images says nothing of the worst input: whichever is larger comes first.
        (Some(sample), Some(search)) if search > sample => {
            tail(UNFOUND, "search", search);
            tail(IMAGES, facts::SAMPLE.id, sample);
            tail(TRIANGLE, "measured", known.measured);
        }
        (Some(sample), Some(search)) => {
            tail(DOMAIN, facts::SAMPLE.id, sample);
            tail(UNFOUND, "search", search);
            tail(IMAGES, "measured", known.measured);
        }
    }
    found
}

/// The ledger of one cell at one depth; empty without a bound, and where nothing finite was measured. The decades add
/// up to `log10` of the first quantity over the measurement.
pub fn ledger(key: &CellKey, depth: u32, layer: &str, known: &Known) -> Vec<LedgerRow> {
    if !known.measured.is_finite() {
        return Vec::new();
    }
    let all = quantities(known);
    let steps = all.windows(2).zip(1..);
    steps
        .map(|(pair, place)| {
            let ((_, from_id, from), (step, to_id, to)) = (&pair[0], &pair[1]);
            LedgerRow {
                cell_id: key.cell_id.clone(),
                model: key.model.clone(),
                quantizer: key.quantizer.clone(),
                bits: key.bits,
                granularity: key.granularity.name().to_string(),
                depth,
                layer: layer.to_string(),
                place,
                step: step.clone(),
                from_id: from_id.to_string(),
                to_id: to_id.to_string(),
                from_log10: *from,
                to_log10: *to,
                decades: from - to,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Granularity;

    fn rows(bounds: &[(&str, f64)], sample: Option<f64>, search: Option<f64>) -> Vec<LedgerRow> {
        let key = CellKey {
            cell_id: "c".into(),
            model: "m".into(),
            quantizer: "q".into(),
            bits: 8,
            granularity: Granularity::PerTensor,
        };
        let bounds = bounds.iter().map(|&(id, b)| (id.to_string(), b));
        let known = Known {
            bounds: bounds.collect(),
            sample,
            search,
            measured: -1.5,
            tail: None,
        };
        ledger(&key, 3, "layer", &known)
    }

    #[test]
    fn steps_telescope_whatever_is_known() {
        let bounds = [
            ("best", 2.0),
            ("houache2025-conv", 40.25),
            ("layerwise", 20.5),
            ("fused", f64::INFINITY),
        ];
        for sample in [None, Some(1.0)] {
            for search in [None, Some(-0.5)] {
                let rows = rows(&bounds, sample, search);
                let sum: f64 = rows.iter().map(|r| r.decades).sum();
                assert!((sum - 41.75).abs() < 1e-12, "{sum}");
                assert_eq!(rows[0].from_id, "houache2025-conv");
                assert_eq!(rows.last().unwrap().to_id, "measured");
                let linked = rows.windows(2).all(|p| p[0].to_id == p[1].from_id);
                assert!(linked, "{rows:?}");
            }
        }
    }

    #[test]
    fn merged_steps_name_everything_that_is_lost() {
        let merged = rows(
            &[("houache2025-conv", 9.0), ("channelwise", 4.0)],
            None,
            None,
        );
        assert_eq!(merged.len(), 2);
        for word in [
            "worst product",
            "every weight",
            "activations' range",
            "channels",
        ] {
            assert!(merged[0].step.contains(word), "{}", merged[0].step);
        }
        for word in ["linear chains", "l2 norms", "whole domain", "triangle"] {
            assert!(merged[1].step.contains(word), "{}", merged[1].step);
        }
        let with_sample = rows(&[("best", 4.0)], Some(2.0), None);
        assert_eq!(with_sample[0].step, DOMAIN);
        assert_eq!(with_sample[1].step, TRIANGLE);
        assert!(rows(&[], Some(2.0), None).is_empty());
    }

    #[test]
    fn no_step_is_lost_between_a_sample_and_a_worse_input() {
        for (sample, search) in [(2.0, -0.5), (-0.5, 2.0)] {
            let rows = rows(&[("best", 4.0)], Some(sample), Some(search));
            assert_eq!(rows.len(), 3);
            assert!(rows.iter().all(|r| r.decades > 0.0), "{rows:?}");
        }
    }
}
