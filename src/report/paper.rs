//! Figures for print: one panel in one column, with the numbers behind it.

use std::path::{Path, PathBuf};

use super::figures::Figure;
use super::plot::{Entry, Key, Panel, Plot, Row};
use super::scale::Axis;
use super::style::Styles;
use super::{ReportError, data, draw, figures, pdf, sections};
use crate::facts;
use crate::results::store::{self, StoreError};

/// What a figure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Measurement and bounds against depth.
    Depth,
    /// The same at the output against bits.
    Bits,
    /// The steps from the loosest bound to the measurement.
    Ledger,
    /// What most images stay under, against depth.
    Tails,
    /// Realized gains beside norms, against depth.
    Gain,
}

/// A file that a figure is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Svg,
    Pdf,
    Png,
    /// Every point: panel, curve, x, y.
    Csv,
    /// A table with a column for each curve, as LaTeX with `booktabs`.
    Latex,
    /// The same as Markdown.
    Markdown,
}

impl Format {
    fn ending(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Pdf => "pdf",
            Self::Png => "png",
            Self::Csv => "csv",
            Self::Latex => "tex",
            Self::Markdown => "md",
        }
    }
}

/// How figures are made.
#[derive(Clone, Debug)]
pub struct Request {
    pub what: What,
    pub formats: Vec<Format>,
    /// Inches.
    pub width: f64,
    /// Bounds to draw; a few of each kind when empty.
    pub curves: Vec<String>,
    /// Words that the figure's title must have, as a model's name.
    pub only: Vec<String>,
}

/// Points of an inch.
const POINTS: f64 = 72.0;
/// Units of a drawing per point: text of 11 and 12 units is 6.6 and 7.2 points.
const UNITS: f64 = 1.0 / 0.6;

/// Draws the figures of a run that are asked for, one file for each panel and format, into `out`.
///
/// # Errors
/// Tables that cannot be read, figures that cannot be written, and a run that has none of the kind.
pub fn figures_for_print(
    run_dir: &Path,
    out: &Path,
    request: &Request,
) -> Result<Vec<PathBuf>, ReportError> {
    let run = data::Run::read(run_dir)?;
    let styles = Styles::new(run.bound_ids());
    let prefix = match request.what {
        What::Depth | What::Tails => "depth-",
        What::Bits => "bits-",
        What::Ledger => "ledger-",
        What::Gain => "attribution-",
    };
    let (mut all, _) = figures::all(&run, &styles, usize::MAX);
    let (sections, _) = sections(run_dir, &run, &styles, usize::MAX)?;
    all.extend(sections.into_iter().flat_map(|s| s.figures));
    let wanted = |f: &Figure| {
        let title = f.plot.title.to_lowercase();
        f.name.starts_with(prefix)
            && request
                .only
                .iter()
                .all(|w| title.contains(&w.to_lowercase()))
    };
    std::fs::create_dir_all(out).map_err(|e| StoreError::Write {
        path: out.to_path_buf(),
        cause: e.to_string(),
    })?;
    let mut files = Vec::new();
    for figure in all.into_iter().filter(wanted) {
        for (name, plot) in columns(figure, request) {
            for &format in &request.formats {
                let file = out.join(format!("{name}.{}", format.ending()));
                store::write_bytes(&file, &made(&plot, &name, format, request.width)?)?;
                files.push(file);
            }
        }
    }
    if files.is_empty() {
        return Err(ReportError::Figure {
            name: prefix.trim_end_matches('-').to_string(),
            problem: "this run has no such figure; bits need several widths, ledgers and bounds a plan with bounds, \
                      gains the study `attribution`, tails the study `tails`"
                .into(),
        });
    }
    Ok(files)
}

fn made(plot: &Plot, name: &str, format: Format, width: f64) -> Result<Vec<u8>, ReportError> {
    let fail = |problem| ReportError::Figure {
        name: name.to_string(),
        problem,
    };
    let units = width * POINTS * UNITS;
    Ok(match format {
        Format::Svg => draw::column_svg(plot, units, width).into_bytes(),
        Format::Png => draw::column_png(plot, units).map_err(fail)?,
        Format::Pdf => pdf::page(&draw::column(plot, units), width * POINTS).map_err(fail)?,
        Format::Csv => csv(plot).into_bytes(),
        Format::Latex => latex(plot).into_bytes(),
        Format::Markdown => markdown(plot).into_bytes(),
    })
}

/// The panels of a figure that are printed, each as a plot with its name.
fn columns(figure: Figure, request: &Request) -> Vec<(String, Plot)> {
    let Plot {
        title,
        rows,
        legend,
    } = figure.plot;
    let Some(row) = rows.into_iter().next() else {
        return Vec::new();
    };
    let picked = |panel: &Panel| match request.what {
        What::Gain => panel.title.contains("gain"),
        _ => true,
    };
    let many = row.panels.len() > 1;
    let height = row.height;
    row.panels
        .into_iter()
        .filter(picked)
        .map(|mut panel| {
            let kept = |label: &str| keeps(label, request);
            panel.lines.retain(|l| kept(&l.label));
            let bands = panel.bands.iter().flat_map(|b| &b.points);
            let ends = bands.flat_map(|(_, low, high)| [*low, *high]);
            let lines = panel.lines.iter().flat_map(|l| &l.points).flatten();
            let values: Vec<f64> = lines.map(|q| q.1).chain(ends).collect();
            if panel.y.log && !values.is_empty() {
                panel.y = Axis::log(&panel.y.title.clone(), values.into_iter(), 6.0);
            }
            if panel.x.log && !panel.bars.is_empty() {
                // Notes need no room beside the longest bars: they stand where there is some.
                let ends = panel.bars.iter().flat_map(|b| [b.from.0, b.to.0]);
                panel.x = Axis::log(&panel.x.title.clone(), ends, 5.0);
            }
            let part = panel.title.split(':').next().unwrap_or_default();
            let whole = match request.what {
                What::Tails => figure.name.replacen("depth-", "tails-", 1),
                _ => figure.name.clone(),
            };
            let name = match many {
                true => format!("{whole}-{}", figures::file_stem(&[part])),
                false => whole,
            };
            let entries = legend
                .iter()
                .filter(|e| kept(&e.label) && is_drawn(e, &panel));
            let plot = Plot {
                title: title.clone(),
                legend: entries.cloned().collect(),
                rows: vec![Row {
                    height: height.min(210.0).max(if panel.bars.is_empty() {
                        0.0
                    } else {
                        1.12 * height
                    }),
                    panels: vec![panel],
                }],
            };
            (name, plot)
        })
        .collect()
}

/// Is what the entry speaks of in the panel?
fn is_drawn(entry: &Entry, panel: &Panel) -> bool {
    match &entry.key {
        Key::Line(stroke, _) => panel.lines.iter().any(|l| l.stroke == *stroke),
        Key::Area(_) => !panel.bands.is_empty(),
        Key::Cross => !panel.invalid.is_empty(),
    }
}

/// Is the curve one of those asked for, or no bound?
fn keeps(label: &str, request: &Request) -> bool {
    let id = label.split(" (").next().unwrap_or(label);
    if facts::of(id).is_none() {
        return !label.starts_with("floating") || request.what == What::Depth;
    }
    match request.what {
        What::Tails => id == facts::SAMPLE.id,
        _ if !request.curves.is_empty() => request.curves.iter().any(|c| c == id),
        What::Depth | What::Bits => FEW.contains(&id),
        What::Ledger | What::Gain => true,
    }
}

/// Bounds that are drawn unless others are named.
const FEW: [&str; 3] = ["gonon2023", "houache2025-conv", "best"];

/// `(curve, x, y)` of all points and bars.
fn points(plot: &Plot) -> Vec<(String, String, f64)> {
    let mut found = Vec::new();
    for panel in plot.rows.iter().flat_map(|r| &r.panels) {
        for line in &panel.lines {
            let at = line.points.iter().flatten();
            found.extend(at.map(|(x, y)| (line.label.clone(), format!("{x}"), *y)));
        }
        for bar in &panel.bars {
            let row = ((bar.from.1 + bar.to.1) / 2.0).round();
            let name = panel.y.ticks.iter().find(|(at, _)| *at == row);
            let name = name.map_or(String::new(), |(_, name)| name.clone());
            found.push(("from".into(), name.clone(), bar.from.0));
            found.push(("to".into(), name, bar.to.0));
        }
    }
    found
}

fn unit(plot: &Plot) -> &'static str {
    let panel = plot.rows.iter().flat_map(|r| &r.panels).next();
    let log = panel.is_some_and(|p| if p.bars.is_empty() { p.y.log } else { p.x.log });
    if log { "log10" } else { "value" }
}

fn csv(plot: &Plot) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text = format!("curve,at,{}\n", unit(plot));
    for (curve, at, y) in points(plot) {
        text += &format!("{},{},{y}\n", quoted(&curve), quoted(&at));
    }
    text
}

/// Rows by place, columns by curve.
fn wide(plot: &Plot) -> (Vec<String>, Vec<Vec<String>>) {
    let (mut curves, mut places): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let found = points(plot);
    for (curve, at, _) in &found {
        if !curves.contains(curve) {
            curves.push(curve.clone());
        }
        if !places.contains(at) {
            places.push(at.clone());
        }
    }
    let rows = places.iter().map(|place| {
        let values = curves.iter().map(|curve| {
            let value = found.iter().find(|(c, at, _)| c == curve && at == place);
            value.map_or(String::new(), |(_, _, y)| format!("{y:.2}"))
        });
        [place.clone()].into_iter().chain(values).collect()
    });
    let rows = rows.collect();
    let head = ["at".to_string()].into_iter().chain(curves).collect();
    (head, rows)
}

fn markdown(plot: &Plot) -> String {
    let (head, rows) = wide(plot);
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("{} ({})\n\n", plot.title, unit(plot));
    text += &line(&head);
    text += &format!("|{}\n", "---|".repeat(head.len()));
    rows.iter().for_each(|row| text += &line(row));
    text
}

fn latex(plot: &Plot) -> String {
    let (head, rows) = wide(plot);
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|c| escaped(c)).collect();
        format!("{} \\\\\n", cells.join(" & "))
    };
    let mut text = format!("% {} ({}); needs booktabs\n", plot.title, unit(plot));
    text += &format!(
        "\\begin{{tabular}}{{l{}}}\n\\toprule\n",
        "r".repeat(head.len() - 1)
    );
    text += &line(&head);
    text += "\\midrule\n";
    rows.iter().for_each(|row| text += &line(row));
    text + "\\bottomrule\n\\end{tabular}\n"
}

fn escaped(text: &str) -> String {
    let mut result = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => result.extend(['\\', c]),
            '′' => result.push('\''),
            '−' => result.push('-'),
            '\\' => result.push_str("\\textbackslash{}"),
            '^' => result.push_str("\\textasciicircum{}"),
            '~' => result.push_str("\\textasciitilde{}"),
            c => result.push(c),
        }
    }
    result
}
