//! The section on guarantees: what the quantizers' papers promise beside what was measured.

mod dfq;
mod figures;
mod rex;

use std::path::Path;

use super::ReportError;
use super::data::Run;
use super::number::Number;
use super::section::{Section, Table, TableCell};
use super::style::Styles;
use crate::results::schema::GuaranteeRow;
use crate::results::store::for_each_row;

const HOW: &str = "Each promise is checked on the codes alone, with data that the quantizer saw. \
    gpfq-norm: ‖Xw − Xq‖₂ ≤ (step / 2) ‖X‖_F for every neuron that reads the network's input. \
    spfq-samples and spfq-frobenius: the mean of ‖Xw − Xq‖₂² over seeds is at most m (step² / 4) max ‖X_j‖₂² and \
    (step² / 4) ‖X‖_F². gpfq-choice and spfq-choice: no projection lies further from its level than half a step, or a step. \
    rex-element: |w − w⁽ᴷ⁾| ≤ (λ₁ / 2) (1 / (2 (2^(b−1) − 1)))^(K−1) for every weight. \
    A neuron that the alphabet clips is no case of the theorem: it does not apply, which is not the same as holding. \
    gpfq-decay is no promise with a constant: the relative square error is claimed to fall linearly with the number of \
    weights, a slope of −1, for many more weights than samples; the theorem's log N / N has a slope of −1 + 1 / ln N, −0.85 over the made-up layers. \
    Real layers have far more samples than weights and inherit the error of the layers before them.";

/// The section; `None` for runs without the study.
pub fn section(dir: &Path, run: &Run, styles: &Styles) -> Result<Option<Section>, ReportError> {
    let path = dir.join("guarantees.parquet");
    if !path.exists() {
        return Ok(None);
    }
    let mut rows: Vec<GuaranteeRow> = Vec::new();
    for_each_row(&path, |row| rows.push(row))?;
    let mut all = vec![
        figures::scatter(&rows, "gpfq", &["gpfq-norm"]),
        figures::decay(&rows),
        figures::scatter(&rows, "spfq", &["spfq-samples", "spfq-frobenius"]),
        rex::figure(&rows, run, styles),
        dfq::figure(run, styles),
    ];
    let figures = all.drain(..).flatten().collect();
    let tables = [Some(kept(&rows)), slopes(&rows), dfq::table(run)];
    Ok(Some(Section {
        id: "guarantees",
        title: "Guarantees".to_string(),
        how: HOW.to_string(),
        figures,
        tables: tables.into_iter().flatten().collect(),
    }))
}

/// One colour per model.
const COLOURS: [&str; 6] = [
    "#0077bb", "#ee7733", "#009988", "#aa4499", "#999933", "#332288",
];

/// The models of the rows with their colours, in order of appearance.
fn models(rows: &[GuaranteeRow]) -> Vec<(&str, &'static str)> {
    let mut models: Vec<(&str, &'static str)> = Vec::new();
    for row in rows {
        if models.iter().all(|(m, _)| *m != row.model) {
            models.push((&row.model, COLOURS[models.len() % COLOURS.len()]));
        }
    }
    models
}

/// How close a measurement comes to its bound.
fn ratio(row: &GuaranteeRow) -> Option<f64> {
    let promised = row.promised.filter(|p| *p > 0.0)?;
    Some(row.measured / promised)
}

fn text(s: impl ToString) -> TableCell {
    TableCell::Text(s.to_string())
}

fn number(value: Option<f64>) -> TableCell {
    value.map_or(text("–"), |v| TableCell::Number(Number::plain(v)))
}

fn count(n: usize) -> TableCell {
    TableCell::Number(Number {
        text: n.to_string(),
        ..Number::plain(n as f64)
    })
}

/// Verdicts and ratios per cell and promise.
fn kept(rows: &[GuaranteeRow]) -> Table {
    let mut groups: Vec<(&GuaranteeRow, Vec<&GuaranteeRow>)> = Vec::new();
    for row in rows.iter().filter(|r| r.verdict != "observed") {
        let same = |a: &GuaranteeRow| a.cell_id == row.cell_id && a.guarantee == row.guarantee;
        match groups.iter_mut().find(|(first, _)| same(first)) {
            Some((_, group)) => group.push(row),
            None => groups.push((row, vec![row])),
        }
    }
    let line = |(first, group): (&GuaranteeRow, Vec<&GuaranteeRow>)| {
        let of = |verdict: &str| group.iter().filter(|r| r.verdict == verdict).count();
        let applies = group.iter().filter(|r| r.verdict != "does-not-apply");
        let mut ratios: Vec<f64> = applies.filter_map(|r| ratio(r)).collect();
        ratios.sort_by(f64::total_cmp);
        vec![
            text(&first.model),
            text(&first.guarantee),
            text(&first.quantizer),
            count(first.bits as usize),
            count(group.len()),
            count(of("holds")),
            count(of("violated")),
            count(of("does-not-apply")),
            number(ratios.get(ratios.len() / 2).copied()),
            number(ratios.last().copied()),
        ]
    };
    let head = [
        "model",
        "promise",
        "quantizer",
        "bits",
        "checked",
        "hold",
        "violated",
        "do not apply",
        "measured / promised, median",
        "largest",
    ];
    Table {
        title: "Promises kept".to_string(),
        head: head.map(String::from).to_vec(),
        rows: groups.into_iter().map(line).collect(),
    }
}

/// Exponents of the decay beside the claimed one.
fn slopes(rows: &[GuaranteeRow]) -> Option<Table> {
    let fits: Vec<&GuaranteeRow> = rows
        .iter()
        .filter(|r| r.guarantee == "gpfq-slope")
        .collect();
    let line = |r: &&GuaranteeRow| {
        let of = match r.layer.as_str() {
            "gaussian" => "made-up layers, many more weights than samples",
            _ => "all layers of the network",
        };
        vec![
            text(&r.model),
            count(r.bits as usize),
            text(of),
            count(r.value as usize),
            number(Some(r.measured)),
            number(r.promised),
        ]
    };
    let head = ["model", "bits", "fit over", "layers", "slope", "claimed"];
    (!fits.is_empty()).then(|| Table {
        title: "Slope of the relative square error of GPFQ against the number of weights, log-log"
            .to_string(),
        head: head.map(String::from).to_vec(),
        rows: fits.iter().map(line).collect(),
    })
}
