//! The promises of quantizers' papers, cell by cell: how many were kept, and how much of a promise was used.

use super::schema::GuaranteeRow;

/// One promise over all layers and neurons of one cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Promise {
    /// The cell.
    pub cell_id: String,
    /// Architecture.
    pub model: String,
    /// `Quantizer::name`.
    pub quantizer: String,
    /// Bit width of the weights.
    pub bits: u32,
    /// `per-tensor` or `per-channel`.
    pub granularity: String,
    /// Id of the promise; `docs/quantizers.md` states them.
    pub guarantee: String,
    /// Rows that hold.
    pub holds: u64,
    /// Rows that do not.
    pub violated: u64,
    /// Rows in which an assumption fails.
    pub does_not_apply: u64,
    /// What was found where nothing is promised.
    pub observed: Vec<f64>,
    /// The largest measured / promised of the rows that are judged; `None` where none has a promise above zero.
    pub most_used: Option<f64>,
}

/// Rows of the study of guarantees as they are read, reduced to promises in order of appearance.
#[derive(Default)]
pub struct Collector {
    promises: Vec<Promise>,
}

impl Collector {
    /// Takes one row.
    pub fn see(&mut self, row: GuaranteeRow) {
        let same = |p: &Promise| (&p.cell_id, &p.guarantee) == (&row.cell_id, &row.guarantee);
        // The last one is the likeliest: rows come promise by promise.
        let at = self.promises.iter().rposition(same);
        let at = at.unwrap_or_else(|| {
            self.promises.push(Promise {
                cell_id: row.cell_id,
                model: row.model,
                quantizer: row.quantizer,
                bits: row.bits,
                granularity: row.granularity,
                guarantee: row.guarantee,
                holds: 0,
                violated: 0,
                does_not_apply: 0,
                observed: Vec::new(),
                most_used: None,
            });
            self.promises.len() - 1
        });
        let promise = &mut self.promises[at];
        let judged = match row.verdict.as_str() {
            "holds" => &mut promise.holds,
            "violated" => &mut promise.violated,
            "observed" => return promise.observed.push(row.measured),
            _ => return promise.does_not_apply += 1,
        };
        *judged += 1;
        if let Some(promised) = row.promised.filter(|p| *p > 0.0) {
            let used = row.measured / promised;
            promise.most_used = Some(promise.most_used.map_or(used, |most| most.max(used)));
        }
    }

    /// What was seen.
    pub fn promises(self) -> Vec<Promise> {
        self.promises
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(guarantee: &str, promised: Option<f64>, measured: f64, verdict: &str) -> GuaranteeRow {
        GuaranteeRow {
            cell_id: "c".into(),
            model: "m".into(),
            quantizer: "gpfq".into(),
            bits: 4,
            granularity: "per-channel".into(),
            guarantee: guarantee.into(),
            layer: "a".into(),
            neuron: None,
            setting: "fan-in".into(),
            value: 9.0,
            promised,
            measured,
            standard_error: None,
            verdict: verdict.into(),
        }
    }

    #[test]
    fn rows_are_counted_by_cell_and_promise() {
        let mut collector = Collector::default();
        for row in [
            row("error", Some(2.0), 1.0, "holds"),
            row("decay", None, -0.8, "observed"),
            row("error", Some(2.0), 3.0, "violated"),
            row("error", Some(0.0), 0.0, "holds"),
            row("error", Some(1.0), 9.0, "does-not-apply"),
        ] {
            collector.see(row);
        }
        let [error, decay] = &collector.promises()[..] else {
            panic!("two promises");
        };
        assert_eq!(
            (error.holds, error.violated, error.does_not_apply),
            (2, 1, 1)
        );
        assert_eq!(error.most_used, Some(1.5));
        assert_eq!((decay.holds, decay.most_used), (0, None));
        assert_eq!(decay.observed, [-0.8]);
    }
}
