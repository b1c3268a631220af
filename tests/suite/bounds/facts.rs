//! What is known of bounds stands in one table, and nobody reads it off an id.

use std::fs;
use std::path::{Path, PathBuf};

use quantbound::bounds::registry;
use quantbound::facts::{self, Arithmetic, Certifies};

#[test]
fn the_ladder_is_the_table_in_its_order() {
    let rungs: Vec<_> = registry().iter().map(|b| b.facts().id).collect();
    let listed = facts::ALL.iter();
    let listed = listed.filter(|f| f.certifies == Certifies::ForAllInputs);
    assert_eq!(rungs, listed.map(|f| f.id).collect::<Vec<_>>());
}

#[test]
fn facts_agree_with_one_another() {
    for fact in facts::ALL {
        let id = fact.with(0.25);
        assert_eq!(fact.parameter_of(&id), Some(0.25));
        assert_eq!(fact.parameter_of("other:0.25"), None);
        let id = if fact.parameter.is_some() {
            &id
        } else {
            fact.id
        };
        assert_eq!(facts::of(id), Some(*fact), "{id}");
        assert_eq!(facts::is_plain(id), fact.clamps.is_none(), "{id}");
        for text in [fact.id, fact.title, fact.source] {
            assert!(!text.is_empty(), "{id} lacks a text");
        }
        if let Some(plain) = fact.clamps {
            let plain = facts::of(plain).unwrap();
            assert!(
                plain.clamps.is_none() && plain.certifies == fact.certifies,
                "{id}"
            );
            assert!(fact.rung.is_none() && !fact.is_monotone, "{id}");
        }
        let per_sample = fact.certifies == Certifies::PerSample;
        assert_eq!(fact.speaks_of == Arithmetic::Engine, per_sample, "{id}");
        assert_eq!(facts::is_for_all_inputs(id), !per_sample, "{id}");
    }
    assert_eq!(facts::of("best+caps"), None);
    assert_eq!(facts::of("ball"), None, "a ball has a radius");
    assert_eq!(facts::of("fused:1"), None, "no parameter there");
    assert_eq!(Arithmetic::of("unheard of"), Arithmetic::Real);
}

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

/// Calls that compare a part of a text, with an argument that is a part of some bound's id or is called one.
fn compares_part_of_an_id(code: &str) -> Vec<String> {
    let part_of_an_id = |part: &str| {
        let ids = facts::ALL.iter().map(|f| f.id);
        ids.into_iter()
            .any(|id| id.starts_with(part) || id.ends_with(part))
    };
    let mut found = Vec::new();
    for call in [
        ".starts_with(",
        ".ends_with(",
        ".strip_prefix(",
        ".strip_suffix(",
        ".contains(",
    ] {
        for (at, _) in code.match_indices(call) {
            let argument = &code[at + call.len()..];
            let bad = match argument.trim_start().strip_prefix('"') {
                Some(literal) => {
                    let part = literal.split('"').next().unwrap();
                    // One letter is no name, and a whole id in a list of texts is a comparison of wholes.
                    part.len() > 2 && part_of_an_id(part)
                }
                None => {
                    let argument = argument.split(')').next().unwrap();
                    call != ".contains("
                        && argument
                            .split(|c: char| !c.is_alphanumeric())
                            .any(|w| w == "id")
                }
            };
            if bad {
                found.push(code[at..].lines().next().unwrap().to_string());
            }
        }
    }
    found
}

#[test]
fn no_id_is_compared_by_prefix_or_suffix() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&root) {
        let text = fs::read_to_string(&path).unwrap();
        let code: String = text
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"))
            .flat_map(|l| [l, "\n"])
            .collect();
        let found = compares_part_of_an_id(&code);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
        let spells_a_cap = code.contains("\"+cap\"");
        assert!(!spells_a_cap, "{} spells what clamps", path.display());
    }
}

#[test]
fn comparisons_by_spelling_are_caught() {
    for bad in [
        "id.ends_with(\"+cap\")",
        "id.starts_with(\"spectral\")",
        "base.starts_with(k.id)",
        "id.strip_prefix(\"ball\")",
        "id.contains(\"fused\")",
    ] {
        assert_eq!(compares_part_of_an_id(bad).len(), 1, "{bad}");
    }
    for fine in [
        "id == facts::BEST.id",
        "name.starts_with(\"efficientnet_lite\")",
        "name.starts_with('.')",
        "ids.contains(&id)",
    ] {
        assert!(compares_part_of_an_id(fine).is_empty(), "{fine}");
    }
}
