//! The page: what the template is given.

use minijinja::value::{Serde, Value};
use minijinja::{Environment, context};
use serde::Serialize;

use super::data::{Cell, Run, percent};
use super::draw;
use super::figures::{Figure, Kind};
use super::number::Number;
use super::scale::short;
use super::section::{Section, TableCell};
use super::style::{Styles, describe};
use super::verdicts;
use crate::results::headline::Headline;
use crate::results::schema::{Finding, VerdictCounts};

#[derive(Serialize)]
struct CellRow {
    id: String,
    model: String,
    quantizer: String,
    bits: u32,
    granularity: &'static str,
    images: u64,
    per_second: Number,
    device: String,
    measured: Number,
    agree: Option<Number>,
    ref_right: Option<Number>,
    quant_right: Option<Number>,
}

#[derive(Serialize)]
struct LooseRow {
    cell: usize,
    bound: String,
    layer: String,
    layer_measured: Number,
    layer_bound: Number,
    layer_looseness: Number,
    output_measured: Number,
    output_bound: Number,
    output_looseness: Number,
}

#[derive(Serialize)]
struct FigureView {
    name: String,
    svg: Value,
    title: String,
    open: bool,
}

/// A value for the template.
fn given(value: impl Serialize) -> Value {
    Value::from(Serde(value))
}

/// The page as one self-contained HTML document; `beside` the run's tables or elsewhere.
pub fn render(
    run: &Run,
    styles: &Styles,
    (figures, sections): (&[Figure], &[Section]),
    (beside, undrawn): (bool, usize),
) -> Result<String, minijinja::Error> {
    let mut env = Environment::new();
    env.add_template("palette.css", include_str!("palette.css"))?;
    env.add_template("report.html", include_str!("template.html"))?;
    let ids = run.bound_ids();
    let legend: Vec<_> = ids
        .iter()
        .map(|id| context! { id, text => describe(id), swatch => swatch(styles, id) })
        .collect();
    let models = distinct(run.cells.iter().map(|c| c.summary.key.model.clone()));
    let devices = distinct(run.cells.iter().map(|c| c.summary.device.clone()));
    let cells: Vec<CellRow> = run.cells.iter().map(cell_row).collect();
    let each = run.cells.iter().map(|c| c.bounds.len()).sum();
    let (loose, loose_more) = first(loose_rows(run), each, 8);
    let columns = 4 + ids.len();
    let (verdicts, verdicts_more) = first(verdicts::rows(run), cells.len(), columns);
    let (_, cells_more) = first(0..cells.len(), cells.len(), 12);
    let invalid_rows: usize = run.cells.iter().map(Cell::invalid_rows).sum();
    env.get_template("report.html")?.render(context! {
        style => Value::from_safe_string(include_str!("page.css").to_string()),
        script => Value::from_safe_string(include_str!("page.js").to_string()),
        data => Value::from_safe_string(script_data(run)),
        models,
        verdict => verdict(&run.summary.counts),
        judged => run.summary.counts.total() > 0,
        bounded => !ids.is_empty() || run.summary.counts.total() > 0,
        undrawn,
        loose_more,
        verdicts_more,
        cells_more,
        cells_shown => cells.len() - cells_more,
        counts => given(run.summary.counts),
        power => power(&run.summary.counts),
        cells => given(cells),
        activations => run
            .cells
            .iter()
            .filter_map(|c| {
                let bits = c.summary.activation_bits?;
                Some(format!("{}: activations of {bits} bit", c.title()))
            })
            .collect::<Vec<_>>(),
        images => given(run.cells.iter().map(|c| c.summary.images).max()),
        headline => headline(&run.headline),
        answers => run.answers.clone(),
        beside,
        software => software(&devices, &run.provenance),
        devices,
        invalid_rows,
        doubts => verdicts::doubts(run),
        depth_figures => given(views(figures, Kind::Depth)),
        bits_figures => given(views(figures, Kind::Bits)),
        top1_figures => given(views(figures, Kind::Top1)),
        sections => given(sections.iter().map(section_view).collect::<Vec<_>>()),
        legend,
        ends_in_layer => run.cells.iter().all(|c| c.summary.final_layer.depth == c.last_depth()),
        loose => given(loose),
        bound_ids => ids,
        verdicts => given(verdicts),
        violations => given(findings(run, &run.summary.violations)),
        undecided => given(findings(run, &run.summary.undecided)),
        invalid => given(findings(run, &run.summary.invalid)),
        provenance => given(flatten(&run.provenance)),
    })
}

/// Fields of a table that a page holds; more of them take long to lay out.
const FIELDS: usize = 20_000;

/// The first of `all` rows of a table of so many columns, and how many more there are: those are never made.
fn first<T>(rows: impl Iterator<Item = T>, all: usize, columns: usize) -> (Vec<T>, usize) {
    let shown = (FIELDS / columns.max(1)).min(all);
    (rows.take(shown).collect(), all - shown)
}

/// The run in a sentence.
fn verdict(counts: &VerdictCounts) -> String {
    let n = counts.total();
    match (counts.violated, counts.invalid) {
        _ if n == 0 => "No bound was evaluated: measurements alone.".to_string(),
        (0, 0) if counts.undecided == 0 => {
            format!("Every bound holds, in all {n} comparisons.")
        }
        (0, 0) => format!(
            "No bound is violated in {n} comparisons; {} are within the rounding of f64.",
            counts.undecided
        ),
        (0, invalid) => {
            format!("No bound is violated, but {invalid} of {n} comparisons are invalid.")
        }
        (violated, _) => format!("Bounds are violated in {violated} of {n} comparisons."),
    }
}

/// What the page's script knows: cells, and the names of the layers of each model.
fn script_data(run: &Run) -> String {
    let cells: Vec<_> = run
        .cells
        .iter()
        .map(|c| {
            let key = &c.summary.key;
            let name = key.granularity.name();
            serde_json::json!([key.cell_id, key.model, key.quantizer, key.bits, name])
        })
        .collect();
    let mut layers = serde_json::Map::new();
    for cell in &run.cells {
        let model = &cell.summary.key.model;
        if !layers.contains_key(model) {
            let names: Vec<&str> = cell.depths.values().map(|d| d.layer.as_str()).collect();
            layers.insert(model.clone(), names.into());
        }
    }
    let data = serde_json::json!({"cells": cells, "layers": layers});
    // No text ends the element that holds it.
    data.to_string().replace('<', "\\u003c")
}

/// What counts of verdicts are worth: a bound far above the measurement would hold with a large error in it too.
fn power(counts: &VerdictCounts) -> String {
    if counts.total() == 0 {
        return "No bound was evaluated".to_string();
    }
    let cleared = match counts.cleared {
        0 => String::new(),
        n => format!("{n} hold in f64 only. "),
    };
    match counts.smallest_slack {
        Some(slack) => format!(
            "{cleared}{} within a decade of the bound, the smallest slack is {} decades",
            counts.within_decade,
            short(slack)
        ),
        None => format!("{cleared}Nothing differs, so that none says anything"),
    }
}

fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

fn views(figures: &[Figure], kind: Kind) -> Vec<FigureView> {
    let chosen: Vec<&Figure> = figures.iter().filter(|f| f.kind == kind).collect();
    let many = kind == Kind::Depth && chosen.len() > 3;
    chosen
        .into_iter()
        .map(|f| view(f, !many || f.first))
        .collect()
}

fn view(figure: &Figure, open: bool) -> FigureView {
    FigureView {
        name: figure.name.clone(),
        svg: Value::from_safe_string(draw::inline_svg(&figure.plot)),
        title: figure.plot.title.clone(),
        open,
    }
}

#[derive(Serialize)]
struct SectionView {
    id: &'static str,
    title: String,
    how: String,
    figures: Vec<FigureView>,
    tables: Vec<TableView>,
}

#[derive(Serialize)]
struct TableView {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<CellView>>,
    more: usize,
}

/// A number, or text.
#[derive(Serialize)]
struct CellView {
    number: Option<Number>,
    text: String,
}

fn section_view(section: &Section) -> SectionView {
    let cell = |c: &TableCell| match c {
        TableCell::Number(n) => CellView {
            number: Some(n.clone()),
            text: String::new(),
        },
        TableCell::Text(text) => CellView {
            number: None,
            text: text.clone(),
        },
    };
    SectionView {
        id: section.id,
        title: section.title.clone(),
        how: section.how.clone(),
        figures: section.figures.iter().map(|f| view(f, f.first)).collect(),
        tables: section
            .tables
            .iter()
            .map(|t| {
                let (rows, more) = first(t.rows.iter(), t.rows.len(), t.head.len());
                TableView {
                    title: t.title.clone(),
                    head: t.head.clone(),
                    rows: rows
                        .into_iter()
                        .map(|r| r.iter().map(cell).collect())
                        .collect(),
                    more,
                }
            })
            .collect(),
    }
}

fn swatch(styles: &Styles, id: &str) -> Value {
    let stroke = styles.stroke(id);
    let dash: Vec<String> = stroke.dash.iter().map(f64::to_string).collect();
    Value::from_safe_string(format!(
        "<svg width=\"44\" height=\"12\" viewBox=\"0 0 44 12\" aria-hidden=\"true\"><path d=\"M1 6H43\" \
         stroke=\"{}\" stroke-width=\"{}\" stroke-dasharray=\"{}\"/></svg>",
        stroke.colour,
        stroke.width,
        dash.join(" ")
    ))
}

fn cell_row(cell: &Cell) -> CellRow {
    let key = &cell.summary.key;
    let out = &cell.output;
    let share = |part, whole| {
        percent(part, whole).map(|p| Number {
            value: format!("{p}"),
            text: format!("{p:.1} % ({part} of {whole})"),
            power: false,
            invalid: false,
        })
    };
    CellRow {
        id: key.cell_id.clone(),
        model: key.model.clone(),
        quantizer: key.quantizer.clone(),
        bits: key.bits,
        granularity: key.granularity.name(),
        images: cell.summary.images,
        per_second: Number::plain(cell.summary.images_per_second),
        device: cell.summary.device.clone(),
        measured: Number::measured(&out.measured),
        agree: share(out.agree, out.logits),
        ref_right: share(out.ref_right, out.labelled),
        quant_right: share(out.quant_right, out.labelled),
    }
}

fn loose_rows(run: &Run) -> impl Iterator<Item = LooseRow> {
    let cells = run.cells.iter().enumerate();
    cells.flat_map(|(i, cell)| {
        cell.bounds
            .iter()
            .map(move |(id, _)| loose_row(i, cell, id))
    })
}

fn loose_row(place: usize, cell: &Cell, id: &str) -> LooseRow {
    let last = &cell.summary.final_layer;
    let layer = cell.depths.get(&last.depth);
    let layer_max = layer.and_then(|d| d.measured.sound_max());
    let output_max = cell.output.measured.sound_max();
    let log = |bound: Option<f64>| match bound {
        Some(log10) => Number::log(log10),
        None => Number::invalid("not given".to_string()),
    };
    let at_layer = cell.bound(id, last.depth);
    let at_output = cell.bound(id, cell.last_depth());
    LooseRow {
        cell: place,
        bound: id.to_string(),
        layer: format!("{} (depth {})", last.layer, last.depth),
        layer_measured: layer.map_or(Number::invalid("not measured".to_string()), |d| {
            Number::measured(&d.measured)
        }),
        layer_bound: log(at_layer),
        layer_looseness: Number::looseness(at_layer, layer_max),
        output_measured: Number::measured(&cell.output.measured),
        output_bound: log(at_output),
        output_looseness: Number::looseness(at_output, output_max),
    }
}

/// The run in a few numbers.
fn headline(headline: &Headline) -> Value {
    let Headline {
        drift,
        tightest,
        loosest,
    } = headline;
    let number = |v: Option<f64>| given(v.map(Number::plain));
    context! {
        tightest => tightest.as_ref().map(|t| context! {
            looseness => given(Number::log(t.looseness)), bound => t.bound.clone(), cell => t.cell.title(),
            loosest => given(loosest.map(Number::log)),
        }),
        least => number(drift.map(|d| d.0)),
        most => number(drift.map(|d| d.1)),
    }
}

/// Does any part of the run say that it ran on a software adapter?
fn software(devices: &[String], provenance: &serde_json::Value) -> bool {
    if provenance["software_adapter"] == true {
        return true;
    }
    devices.iter().any(|device| {
        let device = device.to_lowercase();
        let names = ["llvmpipe", "lavapipe", "swiftshader"];
        names.iter().any(|name| device.contains(name))
    })
}

#[derive(Serialize)]
struct FindingView {
    cell: String,
    bound: String,
    depth: u32,
    layer: String,
    image: String,
    measured: Number,
    f64_measured: Option<Number>,
    f64_at_least: Option<Number>,
    log10_bound: Number,
}

fn findings(run: &Run, found: &[Finding]) -> Vec<FindingView> {
    let title = |id: &str| {
        let cell = run.cells.iter().find(|c| c.summary.key.cell_id == id);
        cell.map_or(id.to_string(), Cell::title)
    };
    found
        .iter()
        .map(|f| FindingView {
            cell: title(&f.cell_id),
            bound: f.bound.clone(),
            depth: f.depth,
            layer: f.layer.clone(),
            image: f.image.clone(),
            measured: Number::plain(f.measured),
            f64_measured: f.f64_measured.map(Number::plain),
            f64_at_least: f.f64_at_least.map(Number::plain),
            log10_bound: Number::log(f.log10_bound),
        })
        .collect()
}

/// Entries of a list that are worth a line each.
const LISTED: usize = 12;

/// Nested JSON as `a.b.c` and its value; long lists say their length.
fn flatten(value: &serde_json::Value) -> Vec<(String, String)> {
    fn visit(path: String, value: &serde_json::Value, out: &mut Vec<(String, String)>) {
        let under = |name: &str| {
            if path.is_empty() {
                name.to_string()
            } else {
                format!("{path}.{name}")
            }
        };
        match value {
            serde_json::Value::Object(map) => {
                for (name, inner) in map {
                    visit(under(name), inner, out);
                }
            }
            serde_json::Value::Array(list) if list.iter().all(|v| !v.is_object()) => {
                let texts: Vec<String> = list.iter().take(LISTED).map(text).collect();
                let more = list.len().saturating_sub(LISTED);
                let tail = if more > 0 {
                    format!(", and {more} more")
                } else {
                    String::new()
                };
                out.push((path, texts.join(", ") + &tail));
            }
            serde_json::Value::Array(list) => {
                for (i, inner) in list.iter().take(LISTED).enumerate() {
                    visit(under(&(i + 1).to_string()), inner, out);
                }
                if list.len() > LISTED {
                    out.push((path, format!("{} entries in all", list.len())));
                }
            }
            plain => out.push((path, text(plain))),
        }
    }
    fn text(value: &serde_json::Value) -> String {
        match value {
            serde_json::Value::String(s) => s.clone(),
            serde_json::Value::Null => "–".to_string(),
            other => other.to_string(),
        }
    }
    let mut out = Vec::new();
    visit(String::new(), value, &mut out);
    out
}
