//! Our numbers, read off the stored tables of a finished run.

use std::collections::BTreeMap;
use std::path::Path;

use super::side_by_side::Row;
use crate::bounds::Rescale;
use crate::experiment::studies::guarantees::TABLE;
use crate::results::promises::Collector;
use crate::results::schema::{
    CellKey, DynamicsRow, GuaranteeRow, RequiredBitsRow, RescalingRow, Row as _, Summary, file,
};
use crate::results::store::for_each_row;

fn names(key: &CellKey) -> [(&'static str, String); 4] {
    [
        ("model", key.model.clone()),
        ("quantizer", key.quantizer.clone()),
        ("bits", key.bits.to_string()),
        ("granularity", key.granularity.name().to_string()),
    ]
}

/// The measurement and bounds at the output, in log10.
pub fn ladder(summary: &Summary, bounds: &[String]) -> Vec<Row> {
    let cells = summary.cells.iter();
    cells
        .map(|cell| {
            let mut values = vec![
                ("layers".to_string(), f64::from(cell.final_layer.depth)),
                (
                    "log10 measured".to_string(),
                    cell.output.max_abs_diff.log10(),
                ),
            ];
            for id in bounds {
                let found = cell.output.bounds.iter().find(|b| b.bound == *id);
                values.push((id.clone(), found.map_or(f64::NAN, |b| b.log10_bound)));
            }
            Row::new(names(&cell.key), values)
        })
        .collect()
}

/// The same for each parametrization that bounds were taken in.
pub fn rescaled(run: &Path, summary: &Summary, bounds: &[String]) -> anyhow::Result<Vec<Row>> {
    let mut stored: Vec<RescalingRow> = Vec::new();
    let table = format!("{}.parquet", RescalingRow::TABLE);
    for_each_row(&run.join(table), |row: RescalingRow| stored.push(row))?;
    let mut rows = Vec::new();
    for cell in &summary.cells {
        let mine = || stored.iter().filter(|r| r.cell_id == cell.key.cell_id);
        let last = mine().map(|r| r.depth).max();
        for units in Rescale::ALL.map(Rescale::name) {
            let [model, quantizer, bits, granularity] = names(&cell.key);
            let title = if units == "none" { "as given" } else { units };
            let names = [model, quantizer, bits, granularity, ("units", title.into())];
            let mut values = vec![(
                "log10 measured".to_string(),
                cell.output.max_abs_diff.log10(),
            )];
            for id in bounds {
                let mut at = mine().filter(|r| Some(r.depth) == last && r.rescale == units);
                let found = at.find(|r| r.bound == *id);
                values.push((id.clone(), found.map_or(f64::NAN, |r| r.log10_bound)));
            }
            rows.push(Row::new(names, values));
        }
    }
    Ok(rows)
}

/// Images that are right and that keep their class, in percent; NaN without logits or labels.
pub fn classes(summary: &Summary) -> Vec<Row> {
    let percent = |part: Option<u64>, of: u64| match part {
        Some(part) if of > 0 => 100.0 * part as f64 / of as f64,
        _ => f64::NAN,
    };
    let cells = summary.cells.iter();
    cells
        .map(|cell| {
            let out = &cell.output;
            let values = [
                ("top-1 %", percent(out.top1_quant_right, out.labelled)),
                (
                    "full precision %",
                    percent(out.top1_ref_right, out.labelled),
                ),
                ("kept %", percent(out.top1_agree, cell.images)),
                ("images", cell.images as f64),
                ("measured", out.max_abs_diff),
            ];
            let values = values.map(|(k, v)| (k.to_string(), v)).to_vec();
            Row::new(names(&cell.key), values)
        })
        .collect()
}

/// How many promises held, and how near the nearest came.
pub fn guarantees(run: &Path) -> anyhow::Result<Vec<Row>> {
    let mut collector = Collector::default();
    for_each_row(
        &run.join(format!("{TABLE}.parquet")),
        |row: GuaranteeRow| {
            collector.see(row);
        },
    )?;
    let rows = collector.promises().into_iter().map(|promise| {
        let values = [
            ("holds", promise.holds as f64),
            ("violated", promise.violated as f64),
            ("does not apply", promise.does_not_apply as f64),
            (
                "most of a promise used",
                promise.most_used.unwrap_or(f64::NAN),
            ),
            ("median observed", median(promise.observed)),
        ];
        Row::new(
            [
                ("model", promise.model),
                ("quantizer", promise.quantizer),
                ("bits", promise.bits.to_string()),
                ("granularity", promise.granularity),
                ("promise", promise.guarantee),
            ],
            values.map(|(k, v)| (k.to_string(), v)).to_vec(),
        )
    });
    Ok(rows.collect())
}

/// Medians over layers of one kind.
pub fn dynamics(run: &Path) -> anyhow::Result<Vec<Row>> {
    let mut found: BTreeMap<[String; 6], [Vec<f64>; 4]> = BTreeMap::new();
    let table = format!("{}.parquet", DynamicsRow::TABLE);
    for_each_row(&run.join(table), |row: DynamicsRow| {
        let key = [
            row.model,
            row.quantizer,
            row.bits.to_string(),
            row.granularity,
            row.tensor,
            row.kind,
        ];
        let values = [row.fluctuation, row.precision, row.sqnr_db, row.kl];
        let lists = found.entry(key).or_default();
        for (list, value) in lists.iter_mut().zip(values) {
            list.push(value);
        }
    })?;
    let rows = found.into_iter().map(|(key, lists)| {
        let [model, quantizer, bits, granularity, tensor, kind] = key;
        let layers = lists[0].len() as f64;
        let titles = [
            "octaves of channels",
            "mean precision",
            "SQNR dB",
            "KL nats",
        ];
        let medians = titles.iter().zip(lists);
        let medians = medians.map(|(title, list)| (title.to_string(), median(list)));
        let values = [("layers".to_string(), layers)].into_iter().chain(medians);
        Row::new(
            [
                ("model", model),
                ("quantizer", quantizer),
                ("bits", bits),
                ("granularity", granularity),
                ("tensor", tensor),
                ("kind", kind),
            ],
            values.collect(),
        )
    });
    Ok(rows.collect())
}

/// Bits at the output, for each tolerance.
pub fn bits(run: &Path, quantities: &[String]) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<RequiredBitsRow> = Vec::new();
    for_each_row(&run.join(file::REQUIRED_BITS), |row: RequiredBitsRow| {
        rows.push(row);
    })?;
    let last = |model: &str| {
        let mine = rows.iter().filter(|r| r.model == model);
        mine.map(|r| r.depth).max()
    };
    let mut found: Vec<Row> = Vec::new();
    for row in &rows {
        if Some(row.depth) != last(&row.model) || !quantities.contains(&row.quantity) {
            continue;
        }
        let bits = row.bits.map_or(f64::NAN, f64::from);
        let value = (format!("{}, bits", row.quantity), bits);
        let names = [
            ("model", row.model.clone()),
            ("granularity", row.granularity.clone()),
            ("tolerance", row.tolerance.to_string()),
        ];
        let new = Row::new(names, vec![("layers".into(), f64::from(row.depth))]);
        let at = match found.iter().position(|r| r.names == new.names) {
            Some(at) => at,
            None => {
                found.push(new);
                found.len() - 1
            }
        };
        found[at].values.push(value);
    }
    Ok(found)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}
