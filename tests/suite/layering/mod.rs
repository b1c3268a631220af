//! Modules import strictly downward: the map of `src/lib.rs` is the law, held folder by folder and file by file.

pub mod imports;

use std::path::Path;

use imports::Crate;

/// What each floor may import, itself included; `` is the root, which helps with misspelt words.
const FLOORS: [(&str, &[&str]); 12] = [
    ("tensor", &["tensor"]),
    ("facts", &["facts"]),
    ("network", &["network", "tensor", ""]),
    ("quant", &["quant", "network", "tensor", ""]),
    (
        "bounds",
        &["bounds", "facts", "quant", "network", "tensor", ""],
    ),
    ("engine", &["engine", "quant", "network", "tensor", ""]),
    ("data", &["data", "tensor", ""]),
    ("hub", &["hub", "data", ""]),
    // Of the floors below, the names that rows and records are made of: device, granularity, preprocessing.
    (
        "results",
        &["results", "facts", "engine", "quant", "data", "tensor"],
    ),
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
            "",
        ],
    ),
    ("report", &["report", "results", "facts"]),
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
            "",
        ],
    ),
];

/// Rooms of one floor, or below, that are closed to another: `(from, to)`.
const CLOSED: [(&str, &str); 4] = [
    ("engine::cpu", "engine::gpu"),
    ("engine::gpu", "engine::cpu"),
    ("results", "engine::cpu"),
    ("results", "engine::gpu"),
];

/// Folders whose files do not know each other (a study no study, a command no command, a part of the page no part of
/// the page), and what in them is for all.
const STRANGERS: [(&str, &[&str]); 3] = [
    (
        "cli",
        &[
            "doctor_findings",
            "doctor_images",
            "doctor_networks",
            "execution",
            "measured",
            "nights",
            "options",
            "output",
            "parametrization",
            "preprocessing",
            "progress",
            "sample",
            "signals",
            "table",
            "tails",
        ],
    ),
    ("experiment::studies", &[]),
    (
        "report",
        &[
            "data", "draw", "figures", "font", "layout", "most", "number", "pdf", "plain", "plot",
            "scale", "section", "style", "verdicts",
        ],
    ),
];

/// What rooms do not name of the outside: no theorem opens a file, no page knows the time.
const OUTSIDE: [(&str, &str); 8] = [
    ("tensor", "std::fs"),
    ("facts", "std::fs"),
    ("bounds", "std::fs"),
    ("bounds", "std::time"),
    ("engine::gpu", "std::fs"),
    ("experiment::plan", "std::fs"),
    ("experiment::studies", "std::fs"),
    ("report", "std::time"),
];

/// What a file of such a room names all the same: what the machine has is the machine's to say, and a file is read within it.
const ASKED: [(&str, &str); 1] = [("tensor::memory", "std::fs")];

/// Rooms of the experiment, each of which may import the ones before it; the files beside them stand between the words and
/// the rest.
const ROOMS: [&str; 7] = [
    "plan", "search", "dynamics", "subject", "studies", "derive", "sweep",
];

fn inside(module: &str, room: &str) -> bool {
    let rest = module.strip_prefix(room);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Which rule `from` breaks when it imports `to`.
fn broken(from: &str, to: &str) -> Option<&'static str> {
    let floor = |module: &str| module.split("::").next().unwrap_or("").to_string();
    if let Some((_, allowed)) = FLOORS.iter().find(|(f, _)| *f == floor(from))
        && !allowed.contains(&floor(to).as_str())
    {
        return Some("imports point downward: FLOORS");
    }
    if CLOSED.iter().any(|(a, b)| inside(from, a) && inside(to, b)) {
        return Some("that room is closed to it: CLOSED");
    }
    let room = |module: &str| {
        let below = module.strip_prefix("experiment::")?;
        let name = below.split("::").next()?;
        ROOMS.iter().position(|r| *r == name)
    };
    match (room(from), room(to)) {
        (Some(from), Some(to)) if to > from => return Some("rooms import downward: ROOMS"),
        (Some(0), None) if inside(to, "experiment") => {
            return Some("words know nothing of what is done with them: ROOMS");
        }
        _ => {}
    }
    for (folder, shared) in STRANGERS {
        let file = |module: &str| {
            let below = module.strip_prefix(folder)?.strip_prefix("::")?;
            below.split("::").next().map(str::to_string)
        };
        if let (Some(from), Some(to)) = (file(from), file(to))
            && from != to
            && !shared.contains(&to.as_str())
        {
            return Some("files of that folder do not know each other: STRANGERS");
        }
    }
    None
}

/// Everything that is wrong with the imports of a crate.
fn complaints(code: &Crate) -> Vec<String> {
    let mut found = Vec::new();
    for (from, to) in code.imports() {
        let rule = broken(&from, &to);
        found.extend(rule.map(|rule| format!("{from} imports {to}; {rule}")));
    }
    for module in code.modules() {
        for name in code.named(&module) {
            let rules = OUTSIDE.iter();
            let asked = ASKED
                .iter()
                .any(|(m, of)| *m == module && inside(&name, of));
            let closed = |(room, name_of): &&(&str, &str)| {
                !asked && inside(&module, room) && inside(&name, name_of)
            };
            found.extend(
                rules
                    .filter(closed)
                    .map(|_| format!("{module} uses {name}: OUTSIDE")),
            );
        }
    }
    for circle in code.circles() {
        found.push(format!(
            "{} import each other in a circle: move what they share into a file below them",
            circle.join(", ")
        ));
    }
    found
}

#[test]
fn every_file_imports_downward_and_none_in_a_circle() {
    let code = Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(code.modules().count() > 200);
    let wrong = complaints(&code);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rooms = ROOMS.map(|r| format!("experiment::{r}"));
    let floors = FLOORS.iter().map(|f| f.0.to_string());
    for room in floors.chain(rooms) {
        assert!(
            code.modules().any(|m| inside(&m, &room)),
            "{room} is no room of the house: take it off the list"
        );
    }
}

/// What is said of a house with these files beside a few that stand.
fn said(files: &[(&str, &str)]) -> Vec<String> {
    let standing = [
        ("lib.rs", "pub mod tensor; pub fn suggest() {}"),
        ("tensor/mod.rs", "pub struct Shape;"),
        (
            "engine/mod.rs",
            "pub mod cpu; pub mod gpu; pub use stats::TapStats; mod stats;",
        ),
        ("engine/stats.rs", "pub struct TapStats;"),
        ("engine/cpu/mod.rs", "pub mod conv;"),
        ("engine/cpu/conv.rs", "pub fn conv() {}"),
        ("engine/gpu/mod.rs", ""),
        ("experiment/mod.rs", ""),
        ("experiment/error.rs", "pub struct SweepError;"),
        ("experiment/sweep/mod.rs", ""),
        (
            "experiment/studies/mod.rs",
            "pub mod isolated; pub trait Study {}",
        ),
        ("experiment/sweep/schedule.rs", ""),
        ("experiment/studies/isolated.rs", "use super::Study;"),
        ("results/mod.rs", "pub mod schema;"),
        ("results/schema.rs", ""),
        ("report/mod.rs", "mod page; mod scale;"),
        ("report/page.rs", ""),
        ("report/scale.rs", ""),
        ("quant/mod.rs", ""),
        ("cli/mod.rs", ""),
        ("cli/sweep.rs", ""),
    ];
    let kept = standing
        .iter()
        .filter(|(path, _)| files.iter().all(|(p, _)| p != path));
    complaints(&Crate::parse(kept.chain(files).copied()))
}

#[test]
fn each_rule_is_broken_by_name() {
    assert_eq!(said(&[]), [""; 0]);
    // A floor: by itself, in a group, renamed, from within an expression, a macro, or by way of `super`.
    for text in [
        "use crate::engine::TapStats;",
        "use crate::{tensor::Shape, engine::{self, cpu as processor}};",
        "use super::super::engine::cpu;",
        "fn f() { let _ = crate::engine::TapStats; }",
        "fn f() -> Vec<crate::engine::TapStats> { Vec::new() }",
        "fn f() { println!(\"{}\", crate::engine::cpu::conv::conv()); }",
        "mod inner { use super::super::super::engine::cpu; }",
    ] {
        let wrong = said(&[("bounds/fused.rs", text)]);
        assert!(!wrong.is_empty(), "{text}");
        let all = wrong
            .iter()
            .all(|w| w.contains("bounds::fused imports engine") && w.contains("FLOORS"));
        assert!(all, "{text}: {wrong:?}");
    }
    let rules = [
        (
            "engine/gpu/conv.rs",
            "use crate::engine::cpu::conv::conv;",
            "CLOSED",
        ),
        (
            "results/store.rs",
            "use crate::engine::cpu::conv;",
            "CLOSED",
        ),
        (
            "results/store.rs",
            "use crate::experiment::studies::Study;",
            "FLOORS",
        ),
        ("report/page.rs", "use crate::quant;", "FLOORS"),
        ("report/page.rs", "use std::time::Instant;", "OUTSIDE"),
        ("report/search.rs", "use super::page;", "STRANGERS"),
        (
            "experiment/studies/search.rs",
            "use super::isolated::X;",
            "STRANGERS",
        ),
        (
            "experiment/studies/search/deep.rs",
            "use super::super::isolated::X;",
            "STRANGERS",
        ),
        (
            "experiment/studies/search.rs",
            "use std::fs; fn f() { fs::read(\"x\"); }",
            "OUTSIDE",
        ),
        ("experiment/plan/mod.rs", "use std::fs;", "OUTSIDE"),
        (
            "experiment/plan/mod.rs",
            "use crate::experiment::error::SweepError;",
            "ROOMS",
        ),
        (
            "experiment/studies/isolated.rs",
            "use crate::experiment::sweep;",
            "ROOMS",
        ),
        ("cli/run.rs", "use super::sweep;", "STRANGERS"),
        ("bounds/fused.rs", "use std::fs;", "OUTSIDE"),
    ];
    for (path, text, rule) in rules {
        let wrong = said(&[(path, text)]);
        let named = wrong.iter().all(|w| w.contains(rule));
        assert!(!wrong.is_empty() && named, "{path} {text}: {wrong:?}");
    }
}

#[test]
fn what_is_allowed_is_not_complained_of() {
    let allowed = [
        (
            "engine/gpu/conv.rs",
            "use super::super::TapStats; use crate::suggest;",
        ),
        (
            "bounds/fused.rs",
            "// crate::engine\nuse crate::tensor::Shape; pub(crate) fn f() {}",
        ),
        (
            "bounds/fused.rs",
            "#[cfg(test)] mod tests { use crate::engine::cpu; }",
        ),
        (
            "bounds/fused.rs",
            "fn f(engine: u8) -> u8 { assert!(engine > 0); engine }",
        ),
        (
            "report/page.rs",
            "use super::scale::short; use crate::results::schema;",
        ),
        (
            "cli/run.rs",
            "use super::options::EngineOptions; use std::time::Instant;",
        ),
    ];
    for (path, text) in allowed {
        assert_eq!(said(&[(path, text)]), [""; 0], "{path}: {text}");
    }
}

#[test]
fn circles_are_found_through_re_exports_too() {
    let circle = said(&[
        (
            "data/mod.rs",
            "mod a; mod b; mod c; pub use a::A; pub use c::C;",
        ),
        ("data/a.rs", "use super::b::B; pub struct A;"),
        ("data/b.rs", "use super::C; pub struct B;"),
        ("data/c.rs", "use crate::data::A; pub struct C;"),
    ]);
    assert_eq!(circle.len(), 1);
    assert!(
        circle[0].contains("data::a, data::b, data::c"),
        "{circle:?}"
    );
    let chain = said(&[
        (
            "data/mod.rs",
            "mod a; mod b; mod c; pub use a::A; pub use c::C;",
        ),
        ("data/a.rs", "use super::b::B; pub struct A;"),
        ("data/b.rs", "use super::C; pub struct B;"),
        ("data/c.rs", "pub struct C;"),
    ]);
    assert_eq!(chain, [""; 0]);
}
