//! A plan with every key that plans have, an example of each and what it means: `quantbound plan`.
//!
//! The keys come from the tables that plans are checked with; a key without a line here fails the tests.

use std::fmt::Write;

use super::explained::{ANY, LINES, Line, PLAN};
use super::keys::KEYS;
use super::method::Method;
use crate::facts;

/// Keys that a plan cannot do without; the others are commented out.
const NEEDED: [(&str, &str); 6] = [
    ("images", "dir"),
    ("model", "name"),
    ("model", "weights"),
    ("uniform", "method"),
    ("uniform", "bits"),
    ("uniform", "granularity"),
];

/// The method whose table is no comment.
const USUAL: &str = "uniform";

fn find(table: &str, key: &str) -> Option<&'static Line> {
    LINES.iter().find(|l| l.table == table && l.key == key)
}

fn keys(table: &str) -> &'static [&'static str] {
    let known = KEYS.iter().find(|(name, _)| *name == table);
    known.map_or(&[], |(_, keys)| keys)
}

/// The whole plan. What starts with `#` and a blank is said to the reader; what starts with `#` alone is a key, or a table,
/// that may be had by taking the `#` away.
pub fn plan() -> String {
    let mut text = String::from(
        "# A plan of quantbound, with every key. Run it by `quantbound sweep FILE`.\n# What is commented out may be left \
         out; the value beside it is an example, or the default where there is one.\n",
    );
    let ids: Vec<&str> = facts::ALL
        .iter()
        .filter(|f| f.certifies == facts::Certifies::ForAllInputs)
        .map(|f| f.id)
        .collect();
    section(&mut text, PLAN, PLAN, "");
    for part in wrapped("bounds", &ids) {
        let _ = writeln!(text, "# {part}");
    }
    section(&mut text, "images", "images", "[images]");
    section(&mut text, "calibration", "calibration", "#[calibration]");
    section(&mut text, "model", "model", "[[model]]");
    section(
        &mut text,
        "preprocessing",
        "preprocessing",
        "#[model.preprocessing]",
    );
    for (method, keys) in Method::KEYS {
        let mark = if method == USUAL { "" } else { "#" };
        match method {
            USUAL => text.push_str(&format!("\n# {}\n", head_of("quantize"))),
            _ => text.push('\n'),
        }
        let _ = writeln!(text, "{mark}[[quantize]]\n{mark}method = \"{method}\"");
        for key in keys.iter().filter(|k| **k != "method") {
            if let Some(line) = find(method, key).or_else(|| find(ANY, key)) {
                entry(&mut text, method, line);
            }
        }
        if method == USUAL {
            section(
                &mut text,
                "activations",
                "activations",
                "#[quantize.activations]",
            );
        }
    }
    section(&mut text, "studies", "studies", "#[studies]");
    section(&mut text, "tails", "tails", "#[studies.tails]");
    text
}

fn head_of(key: &str) -> &'static str {
    find(PLAN, key).map_or("", |l| l.says)
}

/// A table's heading with what is said of it, and its keys.
fn section(text: &mut String, table: &str, name: &str, heading: &str) {
    let says = [PLAN, "model", "studies", ANY]
        .iter()
        .filter(|_| name != PLAN)
        .find_map(|of| find(of, name))
        .map_or("", |l| l.says);
    if !heading.is_empty() {
        let _ = match says {
            "" => writeln!(text, "\n{heading}"),
            _ => writeln!(text, "\n# {says}\n{heading}"),
        };
    }
    for key in keys(table) {
        if let Some(line) = find(table, key) {
            entry(text, table, line);
        }
    }
}

/// `key = example   # what it means`
fn entry(text: &mut String, table: &str, line: &Line) {
    if line.example.is_empty() {
        return;
    }
    let needed = NEEDED.contains(&(table, line.key));
    let mark = if needed { "" } else { "#" };
    let pair = format!("{mark}{} = {}", line.key, line.example);
    let _ = writeln!(text, "{pair:<46} # {}", line.says);
}

/// A list of names in lines of a page's width.
fn wrapped(what: &str, names: &[&str]) -> Vec<String> {
    let mut lines = vec![format!("{what}:")];
    for name in names {
        let fits = lines.last().is_some_and(|l| l.len() + name.len() < 100);
        if !fits {
            lines.push(String::from(" "));
        }
        if let Some(last) = lines.last_mut() {
            last.push(' ');
            last.push_str(name);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::{Plan, check_keys};
    use super::*;
    use std::path::Path;

    /// The plan with every comment mark before a key taken away, tables of saved networks left out.
    fn all_keys() -> String {
        let text = plan();
        let tables = text.split("\n\n");
        let kept = tables.filter(|t| {
            !["saved", "file"]
                .iter()
                .any(|m| t.contains(&format!("method = \"{m}\"")))
        });
        let lines = kept.flat_map(|t| t.lines().chain([""]));
        let lines = lines.map(|l| match l.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key,
            _ => l,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn it_runs_as_it_is_and_with_every_key() {
        let path = Path::new("plan.toml");
        let plain = Plan::parse(&plan(), path).unwrap();
        assert_eq!(plain.quantize.len(), 1);
        let listed = plan();
        let listed = listed.split("# bounds:").nth(1).unwrap();
        let listed = listed.split("\n\n").next().unwrap().split_whitespace();
        let ids: Vec<&str> = listed.filter(|w| *w != "#").collect();
        assert!(ids.len() > 10);
        for id in ids {
            crate::bounds::find(id).unwrap();
        }
        let full = Plan::parse(&all_keys(), path).unwrap();
        assert_eq!(full.quantize.len(), Method::KEYS.len() - 2);
        assert!(full.calibration.is_some() && full.studies.tails.is_some());
        assert!(full.quantize[0].activations.is_some());
    }

    #[test]
    fn every_key_has_a_line_and_every_line_a_key() {
        let text = plan();
        for (table, keys) in KEYS {
            for key in *keys {
                assert!(
                    find(table, key).is_some(),
                    "{table}: {key} is not explained"
                );
            }
        }
        for (method, keys) in Method::KEYS {
            for key in keys.iter().filter(|k| **k != "method") {
                let line = find(method, key).or_else(|| find(ANY, key));
                assert!(line.is_some(), "{method}: {key} is not explained");
            }
        }
        for line in LINES {
            let known = KEYS.iter().map(|(n, keys)| (*n, *keys)).chain(Method::KEYS);
            let mut of = known.filter(|(n, _)| *n == line.table || line.table == ANY);
            assert!(
                of.any(|(_, keys)| keys.contains(&line.key)),
                "{} of {} is no key",
                line.key,
                line.table
            );
            assert!(
                text.contains(line.says),
                "{} of {} is not shown",
                line.key,
                line.table
            );
        }
    }

    #[test]
    fn a_mistyped_key_of_it_is_refused() {
        let text = all_keys().replace("f64_images", "f64_imagse");
        let table: toml::Table = text.parse().unwrap();
        let error = check_keys("the plan", &table, Path::new("p")).unwrap_err();
        assert!(error.to_string().contains("did you mean `f64_images`?"));
    }
}
