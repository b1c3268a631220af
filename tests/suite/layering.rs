//! Modules import strictly downward: the map of `src/lib.rs` is the law.

use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may import of the crate, itself included.
const MAY_IMPORT: [(&str, &[&str]); 11] = [
    ("tensor", &["tensor"]),
    ("network", &["network", "tensor", "suggest"]),
    ("quant", &["quant", "network", "tensor", "suggest"]),
    (
        "bounds",
        &["bounds", "facts", "quant", "network", "tensor", "suggest"],
    ),
    (
        "engine",
        &["engine", "quant", "network", "tensor", "suggest"],
    ),
    ("data", &["data", "tensor", "suggest"]),
    ("hub", &["hub", "data", "suggest"]),
    (
        "experiment",
        &[
            "experiment",
            "results",
            "engine",
            "bounds",
            "facts",
            "data",
            "quant",
            "network",
            "tensor",
            "suggest",
        ],
    ),
    // Of the layers below, the names and records that rows are made of.
    ("results", &["results", "engine", "quant", "data", "tensor"]),
    ("report", &["report", "results", "facts", "suggest"]),
    (
        "cli",
        &[
            "cli",
            "hub",
            "report",
            "experiment",
            "results",
            "engine",
            "bounds",
            "facts",
            "data",
            "quant",
            "network",
            "tensor",
            "suggest",
        ],
    ),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// Layers that a source text names behind `crate::`, also in `use crate::{a, b::c}`.
fn imports(text: &str) -> Vec<String> {
    let word = |s: &str| -> String {
        s.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let code: String = text
        .lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let (mut depth, mut start) = (1, 0);
        for (i, c) in list.char_indices() {
            let ends = depth == 1 && (c == ',' || c == '}');
            if ends {
                found.push(word(list[start..i].trim_start()));
                start = i + 1;
            }
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|w| !w.is_empty());
    found
}

fn violations(layer: &str, text: &str) -> Vec<String> {
    let (_, allowed) = MAY_IMPORT.iter().find(|(l, _)| *l == layer).unwrap();
    let mut bad = imports(text);
    bad.retain(|i| !allowed.contains(&i.as_str()));
    bad
}

#[test]
fn no_layer_imports_upward() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = 0;
    for (layer, _) in MAY_IMPORT {
        for path in sources(&root.join(layer)) {
            let bad = violations(layer, &fs::read_to_string(&path).unwrap());
            assert!(
                bad.is_empty(),
                "{} ({layer}) imports {bad:?}",
                path.display()
            );
            files += 1;
        }
    }
    assert!(files > 30, "only {files} files were walked");
}

#[test]
fn upward_imports_are_caught() {
    assert_eq!(
        violations("bounds", "use crate::engine::Engine;"),
        ["engine"]
    );
    assert_eq!(
        violations("tensor", "use crate::{tensor::Shape, network::Op};"),
        ["network"]
    );
    assert_eq!(
        violations("data", "use crate::{tensor::{Shape, Batch}, report};"),
        ["report"]
    );
    assert!(violations("engine", "// crate::cli\nuse crate::quant::Codes;").is_empty());
}
