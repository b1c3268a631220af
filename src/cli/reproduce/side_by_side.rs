//! Our numbers beside the paper's.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::recipe::{Entry, Paper, Published, Sure, plain};
use crate::cli::table::{self, number};

/// One row of ours: what it is of, and its numbers by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub names: Vec<(String, String)>,
    pub values: Vec<(String, f64)>,
}

impl Row {
    /// From names and numbers as they come.
    pub fn new<const N: usize>(names: [(&str, String); N], values: Vec<(String, f64)>) -> Self {
        let names = names.map(|(key, text)| (key.to_string(), text));
        Self {
            names: names.to_vec(),
            values,
        }
    }
}

/// A figure or table, ours and theirs.
pub struct Comparison<'a> {
    pub paper: (&'a str, &'a Paper),
    pub entry: &'a Entry,
    /// What of weights and images was not as the paper has it.
    pub notes: &'a [String],
    pub minutes: f64,
    pub rows: Vec<Row>,
}

/// A printed table.
struct Sheet {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

const ABSENT: &str = "-";
const NOT_RUN: &str = "not run";

impl Comparison<'_> {
    fn published_at(&self, row: &Row, quantity: &str) -> Option<&Published> {
        let mut all = self.entry.published.iter();
        all.find(|p| p.is_at(&row.names) && p.values.contains_key(quantity))
    }

    /// Published rows that none of ours is beside.
    fn unmatched(&self) -> impl Iterator<Item = &Published> {
        let mine = |p: &Published| self.rows.iter().any(|row| p.is_at(&row.names));
        self.entry.published.iter().filter(move |p| !mine(p))
    }

    /// Names of our columns and of those that the paper alone has.
    fn columns(&self) -> (Vec<String>, Vec<String>) {
        let mut names: Vec<String> = Vec::new();
        let mut quantities: Vec<String> = Vec::new();
        let keep = |list: &mut Vec<String>, text: &str| {
            if !list.iter().any(|known| known == text) {
                list.push(text.to_string());
            }
        };
        for row in &self.rows {
            row.names.iter().for_each(|(k, _)| keep(&mut names, k));
            row.values
                .iter()
                .for_each(|(k, _)| keep(&mut quantities, k));
        }
        for published in &self.entry.published {
            published.at.keys().for_each(|k| keep(&mut names, k));
            published
                .values
                .keys()
                .for_each(|k| keep(&mut quantities, k));
        }
        (names, quantities)
    }

    fn sheet(&self) -> Sheet {
        let (names, quantities) = self.columns();
        let reported = |q: &String| {
            self.entry
                .published
                .iter()
                .any(|p| p.values.contains_key(q))
        };
        // What the paper alone has needs no column of ours.
        let ours = |q: &String| {
            let mut values = self.rows.iter().flat_map(|r| &r.values);
            values.any(|(k, _)| k == q)
        };
        let mut head = names.clone();
        for quantity in &quantities {
            if ours(quantity) {
                head.push(quantity.clone());
            }
            if reported(quantity) {
                head.push(format!("{quantity}, paper"));
            }
        }
        let mut rows = Vec::new();
        for row in &self.rows {
            let name = |key: &String| row.names.iter().find(|(k, _)| k == key);
            let mut line: Vec<String> = names
                .iter()
                .map(|key| name(key).map_or(ABSENT.into(), |(_, text)| text.clone()))
                .collect();
            for quantity in &quantities {
                if ours(quantity) {
                    let value = row.values.iter().find(|(k, _)| k == quantity);
                    line.push(value.map_or(ABSENT.into(), |(_, v)| shown(*v)));
                }
                if reported(quantity) {
                    let theirs = self.published_at(row, quantity);
                    line.push(theirs.map_or("not seen".into(), |p| shown(p.values[quantity])));
                }
            }
            rows.push(line);
        }
        for published in self.unmatched() {
            let name = |key: &String| published.at.get(key).map_or(ABSENT.into(), plain);
            let mut line: Vec<String> = names.iter().map(name).collect();
            for quantity in &quantities {
                if ours(quantity) {
                    line.push(NOT_RUN.into());
                }
                if reported(quantity) {
                    let theirs = published.values.get(quantity);
                    line.push(theirs.map_or("not seen".into(), |v| shown(*v)));
                }
            }
            rows.push(line);
        }
        Sheet { head, rows }
    }

    /// Where the paper's numbers were seen, once each.
    fn sources(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for published in &self.entry.published {
            let how = match published.sure {
                Sure::A => "seen in the authors' own text, data or code",
                Sure::B => "quoted by others, not seen in the original",
            };
            let line = format!("{} ({how})", published.source);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        if lines.is_empty() {
            lines.push(format!("no number of it was seen: {}", self.paper.1.source));
        }
        lines
    }

    fn sentences(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut push = |what: &str, text: &str| {
            if !text.is_empty() {
                lines.push(format!("{what}: {text}"));
            }
        };
        push("paper", &self.sources().join("; "));
        push("smaller here", &self.entry.reduced);
        push("differences", &self.entry.differs);
        for note in self.notes {
            push("note", note);
        }
        push(
            "time",
            &format!(
                "{:.1} minutes; {} expected on one core",
                self.minutes, self.entry.minutes
            ),
        );
        lines
    }

    /// The table and what belongs to it, for a terminal.
    pub fn print(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        let sheet = self.sheet();
        writeln!(out)?;
        writeln!(
            out,
            "{} {}: {}",
            self.paper.0, self.entry.id, self.entry.what
        )?;
        let head: Vec<&str> = sheet.head.iter().map(String::as_str).collect();
        table::print(out, &head, &sheet.rows)?;
        for line in self.sentences() {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    /// The same as a page of Markdown.
    pub fn markdown(&self) -> String {
        let sheet = self.sheet();
        let cell = |text: &String| text.replace('|', "\\|");
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(cell).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = format!(
            "### {} {}: {}\n\n{}\n\n",
            self.paper.0, self.entry.id, self.entry.what, self.paper.1.title
        );
        text += &line(&sheet.head);
        text += &format!("|{}\n", "---|".repeat(sheet.head.len()));
        for row in &sheet.rows {
            text += &line(row);
        }
        text.push('\n');
        for sentence in self.sentences() {
            let _ = writeln!(text, "- {sentence}");
        }
        text
    }

    /// The same as JSON: numbers of ours and theirs by row and quantity.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let names: Map<String, Value> = row
                .names
                .iter()
                .map(|(k, v)| (k.clone(), json!(v)))
                .collect();
            let values: Map<String, Value> = row
                .values
                .iter()
                .map(|(quantity, ours)| {
                    let theirs = self.published_at(row, quantity).map(|p| {
                        json!({"value": p.values[quantity], "source": p.source, "sure": format!("{:?}", p.sure)})
                    });
                    (quantity.clone(), json!({"ours": table::json(*ours), "paper": theirs}))
                })
                .collect();
            json!({"of": names, "values": values})
        });
        let not_run = self.unmatched().map(|p| {
            let at: Map<String, Value> =
                p.at.iter()
                    .map(|(k, v)| (k.clone(), json!(plain(v))))
                    .collect();
            json!({"of": at, "values": p.values, "source": p.source, "sure": format!("{:?}", p.sure)})
        });
        json!({
            "paper": self.paper.0,
            "title": self.paper.1.title,
            "figure": self.entry.id,
            "what": self.entry.what,
            "rows": rows.collect::<Vec<_>>(),
            "paper_only": not_run.collect::<Vec<_>>(),
            "reduced": self.entry.reduced,
            "differences": self.entry.differs,
            "notes": self.notes,
            "minutes": self.minutes,
        })
    }
}

/// Whole numbers as such, others with a few digits.
fn shown(value: f64) -> String {
    if value.is_nan() {
        return ABSENT.into();
    }
    if value.fract() == 0.0 && value.abs() < 1e6 {
        return format!("{value:.0}");
    }
    let text = number(value);
    if text.contains('e') || !text.contains('.') {
        return text;
    }
    let digits = if value.abs() < 10.0 { 3 } else { 2 };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: &str = r#"
        title = "A paper"
        source = "nothing"
        [[entry]]
        id = "1"
        what = "widths"
        minutes = 1.0
        memory = 0.5
        reduced = ""
        differs = "it does"
        reading = { kind = "classes", plan = "none" }
        [[entry.published]]
        at = { model = "p1", bits = 4 }
        values = { width = 7.02 }
        source = "the authors' table"
        sure = "A"
        [[entry.published]]
        at = { model = "p9", bits = 4 }
        values = { width = 1.5, seconds = 3.0 }
        source = "the authors' table"
        sure = "A"
    "#;

    #[test]
    fn ours_and_theirs_stand_side_by_side_and_what_is_not_known_is_said() {
        let paper: Paper = toml::from_str(PAPER).unwrap();
        let row = |model: &str, x: f64| {
            Row::new(
                [("model", model.to_string()), ("bits", "4".to_string())],
                vec![("width".into(), x)],
            )
        };
        let comparison = Comparison {
            paper: ("a", &paper),
            entry: &paper.entry[0],
            notes: &["p2 is synthetic".to_string()],
            minutes: 0.5,
            rows: vec![row("p1", 6.5), row("p2", f64::NAN)],
        };
        let page = comparison.markdown();
        assert!(
            page.contains("| model | bits | width | width, paper | seconds, paper |"),
            "{page}"
        );
        assert!(
            page.contains("| p1 | 4 | 6.500 | 7.020 | not seen |"),
            "{page}"
        );
        assert!(
            page.contains("| p2 | 4 | - | not seen | not seen |"),
            "{page}"
        );
        assert!(page.contains("| p9 | 4 | not run | 1.500 | 3 |"), "{page}");
        assert!(page.contains("note: p2 is synthetic"), "{page}");
        let json = comparison.json();
        assert_eq!(json["rows"][0]["values"]["width"]["paper"]["value"], 7.02);
        assert!(json["rows"][1]["values"]["width"]["paper"].is_null());
        assert_eq!(json["paper_only"][0]["values"]["width"], 1.5);
    }
}
