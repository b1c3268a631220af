//! Bits needed for a tolerance, by each bound and by measurement, against depth.

use std::collections::BTreeMap;
use std::path::Path;

use super::ReportError;
use super::data::Run;
use super::figures::{Figure, Kind, entry, file_stem};
use super::number::Number;
use super::plot::{Entry, Key, Line, Panel, Plot, Row};
use super::scale::Axis;
use super::section::{Section, Table, TableCell};
use super::style::{MEASURED, REFERENCE, Styles, lies_beneath};
use crate::facts;
use crate::results::schema::{RequiredBitsRow, file};
use crate::results::store::for_each_row;

const QUANTITY: &str = "measured";

/// Model, quantizer, granularity.
type Family = (String, String, String);

/// The section; `None` for runs without the table.
pub fn section(dir: &Path, _: &Run, styles: &Styles) -> Result<Option<Section>, ReportError> {
    let path = dir.join(file::REQUIRED_BITS);
    if !path.is_file() {
        return Ok(None);
    }
    let mut families: Vec<(Family, Vec<RequiredBitsRow>)> = Vec::new();
    for_each_row(&path, |row: RequiredBitsRow| {
        let family = (
            row.model.clone(),
            row.quantizer.clone(),
            row.granularity.clone(),
        );
        match families.iter_mut().find(|(f, _)| *f == family) {
            Some((_, rows)) => rows.push(row),
            None => families.push((family, vec![row])),
        }
    })?;
    if families.is_empty() {
        return Ok(None);
    }
    let open = families
        .iter()
        .position(|((_, _, g), _)| g == "per-channel")
        .unwrap_or(0);
    let figures = families.iter().enumerate();
    let figures = figures.map(|(i, (family, rows))| Figure {
        first: i == open,
        ..figure(family, rows, styles)
    });
    Ok(Some(Section {
        id: "required-bits",
        title: "Bits needed".to_string(),
        how: "The smallest bit width at which max |y′ − y| stays under a tolerance, at every depth. Dots are read off \
              the cells of this sweep, which knows its own bit widths and none between them. Lines without dots lie \
              beyond the widest width of the sweep (the grey line): “a-priori” is a theorem in the bit width, for \
              every grid over the weights' range; “extrapolated” takes each further bit to halve the bound and is \
              an estimate. Weights are real numbers there: an f32 weight has 24 bits. Where the measurement has no dot, no \
              width of the sweep keeps it under the tolerance."
            .to_string(),
        figures: figures.collect(),
        tables: vec![at_the_output(&families)],
    }))
}

fn figure(
    (model, quantizer, granularity): &Family,
    rows: &[RequiredBitsRow],
    styles: &Styles,
) -> Figure {
    let mut tolerances: Vec<f64> = rows.iter().map(|r| r.tolerance).collect();
    tolerances.sort_by(f64::total_cmp);
    tolerances.dedup();
    let last = rows.iter().map(|r| r.depth).max().unwrap_or(1);
    let most = rows.iter().filter_map(|r| r.bits).max().unwrap_or(16);
    let widest = f64::from(rows.iter().map(|r| r.swept_to).max().unwrap_or(0));
    let x = Axis::counts("depth (layers from the input)", 1.0, f64::from(last));
    let y = Axis::counts("bits", 0.0, f64::from(most));
    let mut shown: BTreeMap<String, (f64, String)> = BTreeMap::new();
    let panels = tolerances.iter().map(|&tolerance| {
        let mut panel = Panel::new(
            format!("to keep max |y′ − y| under {tolerance}"),
            x.clone(),
            y.clone(),
        );
        panel.lines.push(Line {
            label: "widest of the sweep".to_string(),
            stroke: REFERENCE,
            points: vec![Some((x.min, widest)), Some((x.max, widest))],
            dots: false,
        });
        let mut by_quantity: Vec<(&str, Vec<&RequiredBitsRow>)> = Vec::new();
        for row in rows
            .iter()
            .filter(|r| r.tolerance == tolerance && facts::is_plain(&r.quantity))
        {
            match by_quantity.iter_mut().find(|(q, _)| *q == row.quantity) {
                Some((_, list)) => list.push(row),
                None => by_quantity.push((&row.quantity, vec![row])),
            }
        }
        for (quantity, list) in by_quantity {
            let stroke = match quantity {
                QUANTITY => MEASURED,
                id => styles.stroke(id),
            };
            let point = |r: &RequiredBitsRow| r.bits.map(|b| (f64::from(r.depth), f64::from(b)));
            let points: Vec<_> = list.iter().map(|r| point(r)).collect();
            let read_off = |r: &&&RequiredBitsRow| ["measured", "bound"].contains(&r.kind.as_str());
            let dots = list.iter().filter(read_off).filter_map(|r| point(r));
            panel.lines.push(Line::scatter(quantity, stroke, dots));
            if let Some(end) = list.iter().rev().find(|r| r.bits.is_some()) {
                let label = match end.kind.as_str() {
                    kind @ ("a-priori" | "extrapolated") => format!("{quantity} ({kind})"),
                    _ => quantity.to_string(),
                };
                let bits = f64::from(end.bits.unwrap_or(0));
                shown.insert(quantity.to_string(), (bits, label));
            }
            panel.lines.push(Line {
                label: quantity.to_string(),
                stroke,
                points,
                dots: false,
            });
        }
        panel.lines.sort_by_key(|l| !lies_beneath(&l.label));
        panel
    });
    let panels = panels.collect();
    let mut order: Vec<(&String, &(f64, String))> = shown.iter().collect();
    order.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    let mut legend: Vec<Entry> = order
        .into_iter()
        .map(|(quantity, (_, label))| match quantity.as_str() {
            QUANTITY => entry("measured, largest over images", MEASURED, true),
            id => Entry {
                label: label.clone(),
                key: Key::Line(styles.stroke(id), false),
            },
        })
        .collect();
    legend.push(entry("widest of the sweep", REFERENCE, false));
    Figure {
        name: file_stem(&["required-bits", model, quantizer, granularity]),
        kind: Kind::Study,
        first: false,
        plot: Plot {
            title: format!("Bits needed: {model} {quantizer} {granularity}"),
            rows: vec![Row {
                height: 380.0,
                panels,
            }],
            legend,
        },
    }
}

/// One row per quantity of a family: bits for each tolerance at the output.
fn at_the_output(families: &[(Family, Vec<RequiredBitsRow>)]) -> Table {
    let mut table = Vec::new();
    let mut tolerances: Vec<f64> = Vec::new();
    for ((model, quantizer, granularity), rows) in families {
        let last = rows.iter().map(|r| r.depth).max().unwrap_or(0);
        let mut lines: Vec<(&str, Vec<TableCell>)> = Vec::new();
        for row in rows.iter().filter(|r| r.depth == last) {
            if !tolerances.contains(&row.tolerance) {
                tolerances.push(row.tolerance);
            }
            let bits = match row.bits {
                Some(bits) => TableCell::Number(Number::count(bits)),
                None => TableCell::Text(format!("over {}", row.swept_to)),
            };
            let cells = [bits, TableCell::Text(row.kind.clone())];
            match lines.iter_mut().find(|(q, _)| *q == row.quantity) {
                Some((_, line)) => line.extend(cells),
                None => lines.push((&row.quantity, cells.into())),
            }
        }
        for (quantity, cells) in lines {
            let names = [model, quantizer, granularity, &quantity.to_string()];
            let names = names.map(|s| TableCell::Text(s.clone()));
            table.push(names.into_iter().chain(cells).collect());
        }
    }
    let mut head = ["model", "quantizer", "granularity", "quantity"]
        .map(String::from)
        .to_vec();
    for tolerance in &tolerances {
        head.extend([format!("bits for {tolerance}"), "kind".to_string()]);
    }
    Table {
        title: "Bits needed at the output".to_string(),
        head,
        rows: table,
    }
}
