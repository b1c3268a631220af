//! The pages: what they link to and name is there, and the commands that they write take those flags.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page of the project, by its path from the root, with its text.
fn pages() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for folder in ["", "docs", "results", "datasets"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > 10, "{:?}", found.keys());
    found
}

/// Text in backticks, and the lines of blocks of code.
fn code(page: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (i, block) in page.split("```").enumerate() {
        match i % 2 {
            0 => found.extend(block.lines().flat_map(|l| l.split('`').skip(1).step_by(2))),
            _ => found.extend(block.lines()),
        }
    }
    found
}

/// The name that a heading has in an address.
fn anchor(heading: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || c == ' ' || c == '-' || c == '_';
    let text: String = heading.trim().chars().filter(|c| kept(*c)).collect();
    text.to_lowercase().replace(' ', "-")
}

fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|l| l.starts_with('#'));
    headings
        .map(|l| anchor(l.trim_start_matches('#')))
        .collect()
}

/// `[text](target)`.
fn links(page: &str) -> Vec<&str> {
    let after = page.split("](").skip(1);
    after
        .filter_map(|rest| rest.split_once(')'))
        .map(|(t, _)| t)
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut seen = 0;
    for (name, text) in &pages {
        let folder = Path::new(name).parent().unwrap();
        for link in links(text) {
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            seen += 1;
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target: PathBuf = match file {
                "" => Path::new(name).to_path_buf(),
                _ => folder.join(file),
            };
            let there = root().join(&target);
            assert!(there.exists(), "{name}: {link}: no such file");
            if !place.is_empty() {
                let text = std::fs::read_to_string(there).unwrap();
                assert!(
                    anchors(&text).contains(place),
                    "{name}: {link}: no such heading"
                );
            }
        }
    }
    assert!(seen > 2, "{seen} links");
}

/// Files that recipes make up.
fn is_made_up(path: &str) -> bool {
    let parts = || path.split('/');
    let stem = |part: &str| part.split('.').next().is_some_and(|s| s == "x");
    let shouts = |part: &str| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase());
    parts().any(stem) || parts().any(shouts)
}

#[test]
fn files_that_are_named_are_there() {
    let kinds = [".rs", ".md", ".toml", ".py", ".wgsl", ".sh", ".svg"];
    let rooms = [
        "docs/",
        "experiments/",
        "scripts/",
        "src/",
        "tests/",
        "examples/",
        "python/",
        "shaders/",
        "benches/",
        "datasets/",
        "build/",
    ];
    // Fetched, or made by a run.
    let elsewhere = ["results/runs/", "figures/", "parts/", "datasets/"];
    let mut seen = 0;
    for (name, text) in pages() {
        let words = code(&text).into_iter().flat_map(str::split_whitespace);
        let mentions = text.split(|c: char| c.is_whitespace() || "`()[],;:\"'".contains(c));
        let mentions = mentions.filter(|w| w.starts_with("docs/") && w.contains(".md"));
        for word in words.chain(mentions) {
            let word = word.trim_matches(|c: char| "`()[],;:\"'.".contains(c));
            let path = word.split(['#', ':']).next().unwrap_or(word);
            let looks = rooms.iter().any(|r| path.starts_with(r))
                || path.contains('/') && kinds.iter().any(|k| path.ends_with(k));
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            if !looks
                || !path.chars().all(plain)
                || path.starts_with(['/', '.'])
                || is_made_up(path)
                || elsewhere.iter().any(|e| path.starts_with(e))
            {
                continue;
            }
            seen += 1;
            let places = [
                "",
                "src/",
                "src/experiment/",
                "src/results/",
                "tests/suite/",
            ];
            let there = places.iter().any(|p| root().join(p).join(path).exists());
            assert!(there, "{name} names {path}, which is not there");
        }
    }
    assert!(seen > 40, "{seen} files");
}

/// `quantbound COMMAND ... --flag ...` in code: command and flags.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut lines = Vec::new();
    for line in code(text) {
        // What `$(...)` holds is a command of its own.
        let inner = line.split_once("$(").and_then(|(before, rest)| {
            let (inner, after) = rest.split_once(')')?;
            Some((inner.to_string(), format!("{before} {after}")))
        });
        match inner {
            Some((inner, outer)) => lines.extend([inner, outer]),
            None => lines.push(line.to_string()),
        }
    }
    for line in &lines {
        // A note behind a command may name flags too, all of them its own.
        for part in line.split("quantbound ").skip(1) {
            let name = part.split_whitespace().next().unwrap_or_default();
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
                continue;
            }
            let words = part.split(|c: char| c.is_whitespace() || "[](),;|'\"".contains(c));
            let flags = words.filter(|w| w.starts_with("--") && w.len() > 2);
            let flags = flags.map(|w| w.split('=').next().unwrap_or(w).to_string());
            found.push((name.to_string(), flags.collect()));
        }
    }
    found
}

#[test]
fn commands_are_written_as_they_are() {
    let help = |name: &str| {
        let mut command = Command::cargo_bin("quantbound").unwrap();
        let output = command.args([name, "--help"]).output().unwrap();
        let fine = output.status.success();
        fine.then(|| String::from_utf8(output.stdout).unwrap())
    };
    let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut seen = 0;
    for (page, text) in pages() {
        for (name, flags) in commands(&text) {
            let help = known.entry(name.clone()).or_insert_with(|| help(&name));
            let help = help
                .as_ref()
                .unwrap_or_else(|| panic!("{page}: quantbound {name}: no such command"));
            for flag in flags {
                seen += 1;
                let has = help.split(|c: char| c.is_whitespace() || ",[]".contains(c));
                let mut has = has.filter(|w| w.starts_with("--"));
                assert!(
                    has.any(|w| w == flag),
                    "{page}: quantbound {name} {flag}: no such flag"
                );
            }
        }
    }
    assert!(seen > 60, "{seen} flags");
}

#[test]
fn pages_are_taken_apart() {
    let page = "# The `x` of it\na `quantbound run --bits 4` b\n```\nquantbound doctor [--json]  # or --images\n```\n";
    assert_eq!(anchors(page), BTreeSet::from(["the-x-of-it".to_string()]));
    let flags = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        commands(page),
        [
            ("run".to_string(), flags(&["--bits"])),
            ("doctor".to_string(), flags(&["--json", "--images"]))
        ]
    );
    assert_eq!(
        commands("`quantbound bounds --weights \"$(quantbound fetch m)\" --bits 8`"),
        [
            ("fetch".to_string(), Vec::new()),
            ("bounds".to_string(), flags(&["--weights", "--bits"]))
        ]
    );
    assert_eq!(links("[a](b.md#c) and [d](e)"), ["b.md#c", "e"]);
    assert!(is_made_up("src/bounds/x.rs") && !is_made_up("docs/bounds.md"));
}
