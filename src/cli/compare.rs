//! `quantbound compare BASE NEW`

use std::io::Write;
use std::path::PathBuf;

use super::Outcome;
use super::output::say;
use super::table;
use crate::report;
use crate::results::compare::{Change, Comparison, Said, compare};

/// Rows of the table; all of them are in the other formats.
const ROWS: usize = 60;
/// Columns of the terminal that a name of a bound or an image may take.
const WHERE: usize = 26;

/// Arguments of `compare`.
#[derive(clap::Args)]
pub struct Args {
    /// The earlier run directory
    base: PathBuf,
    /// The later one
    new: PathBuf,
    /// Everything as JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// The changes as a Markdown table
    #[arg(long)]
    markdown: bool,
    /// Also write a page with figures from before and after
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Args {
    /// Compares and prints what changed.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let found = compare(&self.base, &self.new)?;
        if self.json {
            say!("{}", serde_json::to_string_pretty(&found)?);
        } else if self.markdown {
            markdown(&found)?;
        } else {
            terminal(&found)?;
        }
        if let Some(path) = &self.html {
            report::compared(&found, &self.base, &self.new, path)?;
        }
        Ok(if found.failed() {
            Outcome::Failed
        } else {
            Outcome::Fine
        })
    }
}

/// What the comparison left open.
fn remarks(found: &Comparison) -> Vec<String> {
    let mut lines = Vec::new();
    if found.within_allowance > 0 {
        lines.push(format!(
            "{} discrepancies moved within the floating-point allowance",
            found.within_allowance
        ));
    }
    if found.redrawn > 0 {
        lines.push(format!(
            "{} cells on another draw of images: only images in both are compared",
            found.redrawn
        ));
    }
    let unpaced = found.cells - found.paced;
    if unpaced > 0 {
        lines.push(format!(
            "speed of {unpaced} cells not compared: fewer than 3 batches"
        ));
    }
    if found.cells == 0 {
        lines.push("no cell is in both runs: other networks, images or quantizers".into());
    }
    lines
}

/// The end of a long name tells it from its neighbours.
fn fitted(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_string();
    }
    let end: String = text.chars().skip(length - (width - 1)).collect();
    format!("\u{2026}{end}")
}

fn terminal(found: &Comparison) -> std::io::Result<()> {
    let mut out = super::output::stdout();
    writeln!(out, "{}", found.sentence())?;
    for line in remarks(found) {
        writeln!(out, "{line}")?;
    }
    let mut left = ROWS;
    let mut rest = found.changes.as_slice();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|c| c.spec_id == first.spec_id);
        let (of_cell, others) = rest.split_at(same.count());
        if left == 0 {
            writeln!(out, "\n... and {} more: --json has them all", rest.len())?;
            break;
        }
        writeln!(out, "\n{}", fitted(&first.cell, 80))?;
        let shown = &of_cell[..of_cell.len().min(left)];
        left -= shown.len();
        table::print(
            &mut out,
            &["", "", "where", "base", "new", "places"],
            &rows(shown),
        )?;
        rest = &rest[shown.len()..];
        if shown.len() == of_cell.len() {
            rest = others;
        }
    }
    if !found.environment.is_empty() {
        writeln!(out, "\nmade otherwise")?;
        let rows = found.environment.iter().map(|d| {
            let (base, new) = tellable(&d.base, &d.new, 29);
            vec![d.what.to_string(), base, new]
        });
        table::print(
            &mut out,
            &["what", "base", "new"],
            &rows.collect::<Vec<_>>(),
        )?;
    }
    out.flush()
}

/// Two texts cut to a width around what differs first.
fn tellable(base: &str, new: &str, width: usize) -> (String, String) {
    let same = base.chars().zip(new.chars()).take_while(|(a, b)| a == b);
    let from = same.count().saturating_sub(8);
    let cut = |text: &str| {
        let length = text.chars().count();
        if length <= width {
            return text.to_string();
        }
        let from = from.min(length - (width - 2));
        let middle: String = text.chars().skip(from).take(width - 2).collect();
        let before = if from > 0 { "\u{2026}" } else { "" };
        let after = if from + width - 2 < length {
            "\u{2026}"
        } else {
            ""
        };
        format!("{before}{middle}{after}")
    };
    (cut(base), cut(new))
}

fn rows(changes: &[Change]) -> Vec<Vec<String>> {
    let row = |c: &Change| {
        let (base, new) = Said::texts(c.base.as_ref(), c.new.as_ref());
        vec![
            c.level.name().to_string(),
            c.what.name().to_string(),
            fitted(&c.place(), WHERE),
            fitted(&base, 12),
            fitted(&new, 12),
            if c.places > 1 {
                c.places.to_string()
            } else {
                String::new()
            },
        ]
    };
    changes.iter().map(row).collect()
}

fn markdown(found: &Comparison) -> std::io::Result<()> {
    let mut out = super::output::stdout();
    let plain = |text: &str| text.replace('|', "\\|");
    writeln!(out, "**{}**\n", found.sentence())?;
    for line in remarks(found) {
        writeln!(out, "- {line}")?;
    }
    if !found.changes.is_empty() {
        writeln!(out, "\n| | what | cell | where | base | new | places |")?;
        writeln!(out, "|---|---|---|---|---|---|---|")?;
    }
    for c in &found.changes {
        let (base, new) = Said::texts(c.base.as_ref(), c.new.as_ref());
        writeln!(
            out,
            "| {} | {} | {} | {} | {base} | {new} | {} |",
            c.level.name(),
            c.what.name(),
            plain(&c.cell),
            plain(&c.place()),
            c.places
        )?;
    }
    if !found.environment.is_empty() {
        writeln!(out, "\n| made otherwise | base | new |\n|---|---|---|")?;
    }
    for d in &found.environment {
        writeln!(
            out,
            "| {} | {} | {} |",
            d.what,
            plain(&d.base),
            plain(&d.new)
        )?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_what_tells_them_apart() {
        assert_eq!(fitted("spectral-fused", 8), "\u{2026}l-fused");
        let (a, b) = ("0".repeat(40) + "a", "0".repeat(40) + "b");
        let (a, b) = tellable(&a, &b, 20);
        assert_ne!(a, b);
        assert!(a.chars().count() <= 20 && b.chars().count() <= 20);
        assert_eq!(tellable("1.0", "1.1", 20), ("1.0".into(), "1.1".into()));
    }
}
