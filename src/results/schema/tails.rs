//! Statements for most images of a law.

use super::column::table;

table! {
    /// One statement about a cell: `docs/bounds.md`, guarantees over a distribution of images. An image above `value` is
    /// expected at the stated rate, and is no violation.
    TailRow in "tails" {
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
        /// `TailFacts::id`: which theorem.
        theorem: String,
        /// What is bounded: `max_abs_diff`, `l2_diff`, `flip`, or the id of a bound per image.
        statistic: String,
        /// As in `MeasurementRow::depth`.
        depth: u32,
        /// Node name.
        layer: String,
        /// In the statistic's unit; for `rate` and means the rate or mean; infinite where nothing finite is known.
        value: f64,
        /// Share of images at or under the value; null for rates and means.
        coverage: Option<f64>,
        /// Probability, over the draw of the images, that the statement is true; null where the coverage is the
        /// probability for the next image, over the draw and that image.
        confidence: Option<f64>,
        /// Images that the statement rests on.
        n: u32,
        /// Rank of the deciding image from the top; images counted, for a rate; 0 where no single image decides.
        k: u32,
        /// Images that the coverage asked for needs, where `n` are too few for it and `coverage` is what they support.
        needed: Option<u32>,
    }
}

impl TailRow {
    /// Whether it is one depth of the statement about all depths at once.
    pub fn is_curve(&self) -> bool {
        self.theorem == "together" && self.statistic == "max_abs_diff"
    }

    /// In words, for the statement about all depths at once: `rows` of one run, of `cells` cells.
    pub fn headline(rows: &[Self], cells: usize) -> Option<String> {
        let curves = || rows.iter().filter(|r| r.is_curve());
        let last = curves().map(|r| r.depth).max()?;
        let at_last = curves().filter(|r| r.depth == last);
        let row = at_last.min_by(|a, b| a.value.total_cmp(&b.value))?;
        let (coverage, confidence) = (row.coverage?, row.confidence?);
        let depths = curves().filter(|r| r.cell_id == row.cell_id).count();
        let mut text = format!(
            "with {} % confidence, for all but {} % of images drawn like these {}, max |y' - y| stays within {} at the \
             output and within the tail at all {depths} depths at once ({} {} {} bit {})",
            percent(confidence),
            percent(1.0 - coverage),
            row.n,
            value(row.value),
            row.model,
            row.quantizer,
            row.bits,
            row.granularity,
        );
        if let Some(needed) = row.needed {
            text += &format!("; the coverage asked for needs {needed} images");
        }
        if cells > 1 {
            let left = 1.0 - cells as f64 * (1.0 - confidence);
            text += &if left > 0.0 {
                format!(
                    "; chosen as the best of {cells} cells: {} % confidence",
                    percent(left)
                )
            } else {
                format!(
                    "; chosen as the best of {cells} cells it has no confidence: choose by other images"
                )
            };
        }
        Some(text)
    }
}

fn percent(p: f64) -> String {
    let text = format!("{:.2}", 100.0 * p);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn value(x: f64) -> String {
    if (1e-3..1e5).contains(&x) {
        format!("{x:.4}")
    } else {
        format!("{x:.3e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cell: &str, depth: u32, value: f64, needed: Option<u32>) -> TailRow {
        TailRow {
            cell_id: cell.into(),
            model: "m".into(),
            quantizer: "q".into(),
            bits: 8,
            granularity: "per-tensor".into(),
            theorem: "together".into(),
            statistic: "max_abs_diff".into(),
            depth,
            layer: String::new(),
            value,
            coverage: Some(0.95),
            confidence: Some(0.95),
            n: 80,
            k: 1,
            needed,
        }
    }

    #[test]
    fn the_headline_says_what_a_choice_costs_and_what_is_missing() {
        let one = [row("a", 1, 9.0, None), row("a", 2, 0.25, None)];
        let text = TailRow::headline(&one, 1).unwrap();
        for part in [
            "95 % confidence",
            "all but 5 %",
            "these 80",
            "within 0.2500",
            "all 2 depths",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("chosen"), "{text}");
        let two = [row("a", 2, 0.25, Some(59)), row("b", 2, 0.5, None)];
        let text = TailRow::headline(&two, 2).unwrap();
        assert!(text.contains("best of 2 cells: 90 %"), "{text}");
        assert!(text.contains("needs 59 images"), "{text}");
        assert!(
            TailRow::headline(&two, 30)
                .unwrap()
                .contains("no confidence")
        );
        assert_eq!(TailRow::headline(&[], 1), None);
    }
}
