//! Plain text tables: numbers to the right, words to the left.

use std::io::Write;

use crate::results::schema::VerdictCounts;

/// Prints rows under a header; columns are as wide as their widest entry.
pub fn print(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> std::io::Result<()> {
    let widths: Vec<usize> = (0..header.len())
        .map(|c| {
            let cells = rows.iter().filter_map(|r| r.get(c));
            let widest = cells.map(|s| s.chars().count()).max().unwrap_or(0);
            widest.max(header[c].chars().count())
        })
        .collect();
    let numeric: Vec<bool> = (0..header.len())
        .map(|c| {
            let mut cells = rows.iter().filter_map(|r| r.get(c));
            cells.all(|s| {
                s.starts_with(|x: char| x.is_ascii_digit() || "-<".contains(x)) || s.is_empty()
            })
        })
        .collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| -> std::io::Result<()> {
        let mut text = String::new();
        for (i, cell) in cells.enumerate() {
            let pad = " ".repeat(widths[i].saturating_sub(cell.chars().count()));
            match numeric[i] {
                true => text.push_str(&format!("{pad}{cell}  ")),
                false => text.push_str(&format!("{cell}{pad}  ")),
            }
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(&mut header.iter().copied())?;
    for row in rows {
        line(&mut row.iter().map(String::as_str))?;
    }
    Ok(())
}

/// A number with a few significant digits, short at any magnitude.
pub fn number(x: f64) -> String {
    if x == 0.0 || (1e-3..1e5).contains(&x.abs()) {
        let digits = if x.abs() >= 100.0 { 1 } else { 4 };
        format!("{x:.digits$}")
    } else {
        format!("{x:.3e}")
    }
}

/// Counts of verdicts, with what they are worth: how many come within a decade of another outcome, and how near.
pub fn verdicts(c: &VerdictCounts) -> String {
    let mut text = format!("{} hold", c.holds);
    if c.cleared > 0 {
        text += &format!(" ({} of them in f64 only)", c.cleared);
    }
    if c.undecided > 0 {
        text += &format!(", {} undecided within the rounding of f64", c.undecided);
    }
    text += &format!(", {} violated, {} invalid", c.violated, c.invalid);
    match c.smallest_slack {
        Some(slack) => format!(
            "{text}; {} within a decade of the bound, the smallest slack {slack:.2} decades",
            c.within_decade
        ),
        None => format!("{text}; nothing differs, so that none says anything"),
    }
}

/// The log10 of a bound: `-` stands for a bound of exactly zero.
pub fn log10(x: f64) -> String {
    match x {
        f64::NEG_INFINITY => "-".into(),
        x => format!("{x:.2}"),
    }
}
