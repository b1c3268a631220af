//! Nights as text.

use std::io::Write;

use super::table;
use crate::results::history::{Followed, History, Night, Point, Series, Worth};

/// One letter per worth.
fn letter(worth: Worth) -> char {
    match worth {
        Worth::Good => '+',
        Worth::Bad => 'X',
        Worth::Unfinished => '?',
        Worth::Missing => '.',
    }
}

/// The numbers as blocks of eight heights, a gap where there is none.
pub fn sparkline(points: &[Option<Point>]) -> String {
    let finite = points.iter().flatten().map(|p| p.value);
    let finite = finite.filter(|v| v.is_finite());
    let (lo, hi) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| {
        (lo.min(v), hi.max(v))
    });
    let block = |p: &Option<Point>| match p {
        None => ' ',
        Some(p) if !p.value.is_finite() => '!',
        Some(_) if hi <= lo => '\u{2584}',
        Some(p) => {
            let height = ((p.value - lo) / (hi - lo) * 7.0).round() as u32;
            char::from_u32(0x2581 + height.min(7)).unwrap_or('!')
        }
    };
    points.iter().map(block).collect()
}

/// The nights of a folder: how many are good, and why the others are not.
pub fn overview(out: &mut impl Write, history: &History) -> std::io::Result<()> {
    let nights = &history.nights;
    let name = |night: Option<&Night>| night.map_or(String::new(), |n| n.name.clone());
    writeln!(
        out,
        "{} nights, {} to {}: {}",
        nights.len(),
        name(nights.first()),
        name(nights.last()),
        history.counts()
    )?;
    let letters: String = nights.iter().map(|n| letter(n.worth)).collect();
    let start = letters.len().saturating_sub(72);
    writeln!(
        out,
        "  {}  + good  X bad  ? unfinished  . missing",
        &letters[start..]
    )?;
    let bad: Vec<&Night> = nights.iter().filter(|n| n.worth != Worth::Good).collect();
    let shown = bad.len().saturating_sub(10);
    if shown > 0 {
        writeln!(out, "  ... {shown} more before these:")?;
    }
    for night in &bad[shown..] {
        writeln!(
            out,
            "  {}  {}: {}",
            night.name,
            night.worth.name(),
            night.why
        )?;
    }
    Ok(())
}

/// A row per series.
pub fn series<'a>(
    out: &mut impl Write,
    title: &str,
    rows: impl Iterator<Item = &'a Series>,
) -> std::io::Result<()> {
    let rows: Vec<Vec<String>> = rows.map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    table::print(out, &["", "cell", "", "last", "worse for"], &rows)
}

fn row(series: &Series) -> Vec<String> {
    let start = series.points.len().saturating_sub(20);
    let last = series.last().map_or(String::new(), |p| match series.what {
        Followed::Bound(_) => format!("10^{:.3}", p.value),
        _ => table::number(p.value),
    });
    let worse = match series.worse {
        0 => String::new(),
        1 => "1 night".into(),
        n => format!("{n} nights"),
    };
    vec![
        series.what.name().to_string(),
        series.cell.clone(),
        sparkline(&series.points[start..]),
        last,
        worse,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_say_which_number_is_larger() {
        let point = |value: f64| {
            Some(Point {
                value,
                least: value,
                most: value,
            })
        };
        let line = sparkline(&[point(1.0), None, point(8.0), point(4.5), point(f64::NAN)]);
        assert_eq!(line, "\u{2581} \u{2588}\u{2585}!");
        assert_eq!(sparkline(&[point(3.0); 2]), "\u{2584}\u{2584}");
    }
}
