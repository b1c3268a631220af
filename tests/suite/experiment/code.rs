//! What is hashed as the code of a component: tokens of all sources that rows follow from, and nothing else.

#[path = "../../../build/code.rs"]
mod components;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use components::{COMPONENTS, Component, NO_ROWS};

use crate::layering::imports::Crate;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn named(name: &str) -> &'static Component {
    COMPONENTS.iter().find(|c| c.name == name).unwrap()
}

/// A copy of all that is hashed, to be changed.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let lock = Path::new("Cargo.lock").to_path_buf();
    let files = COMPONENTS.iter().flat_map(|c| c.files(root()).unwrap());
    for path in files.chain([lock]) {
        let to = copy.path().join(&path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join(&path), to).unwrap();
    }
    // What a component leaves out need not be of another.
    for except in COMPONENTS.iter().flat_map(|c| c.except) {
        fs::create_dir_all(copy.path().join(except)).unwrap();
    }
    copy
}

fn hashes(root: &Path) -> Vec<String> {
    COMPONENTS.iter().map(|c| c.hash(root).unwrap()).collect()
}

/// Names of the components that another text of `path` changes.
fn changed_by(path: &str, change: impl FnOnce(String) -> String) -> Vec<&'static str> {
    let copy = copy();
    let before = hashes(copy.path());
    assert_eq!(before, hashes(root()));
    let path = copy.path().join(path);
    let text = fs::read_to_string(&path).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed, "{} did not change", path.display());
    fs::write(&path, changed).unwrap();
    let after = hashes(copy.path());
    let names = COMPONENTS.iter().zip(before.iter().zip(&after));
    names
        .filter(|(_, (a, b))| a != b)
        .map(|(c, _)| c.name)
        .collect()
}

fn replaced(from: &'static str, to: &'static str) -> impl FnOnce(String) -> String {
    move |text| text.replacen(from, to, 1)
}

#[test]
fn comments_blanks_and_tests_change_nothing() {
    let commented = |text: String| {
        format!("// more\n{text}\n/* end */\n").replace("pub fn", "/// Documented.\n\n    pub   fn")
    };
    for path in [
        "src/engine/cpu/conv.rs",
        "src/engine/stats.rs",
        "src/experiment/studies/isolated.rs",
    ] {
        assert_eq!(changed_by(path, commented), [""; 0], "{path}");
    }
    let tested = |text: String| text + "\n#[cfg(test)]\nmod more { fn one() -> u8 { 1 } }\n";
    assert_eq!(changed_by("src/engine/stats.rs", tested), [""; 0]);
    let spaced = |text: String| {
        let text = text.replace("//", "// more ").replace('\n', "\n\n  ");
        format!("/* one /* in */ another */\n{text}")
    };
    assert_eq!(changed_by("shaders/conv.wgsl", spaced), [""; 0]);
}

#[test]
fn a_formula_changes_what_follows_from_it_and_nothing_else() {
    let cases: [(&str, &str, &str, &[&str]); 9] = [
        (
            "src/experiment/studies/isolated.rs",
            "tap as u32 + 1",
            "tap as u32 + 2",
            &["ISOLATED"],
        ),
        (
            "src/experiment/dynamics/mod.rs",
            "10.0 *",
            "20.0 *",
            &["DYNAMICS"],
        ),
        (
            "src/experiment/studies/guarantees/decay.rs",
            "0.0f64; samples",
            "1.0f64; samples",
            &["GUARANTEES"],
        ),
        (
            "src/experiment/studies/rescaling.rs",
            "push(PATH_NORM",
            "push(NORM_PRODUCT",
            &["RESCALING"],
        ),
        (
            "src/experiment/studies/sample_bounds.rs",
            ".next_up()",
            "",
            &["SAMPLE_BOUNDS"],
        ),
        (
            "src/experiment/search/projected_gradient_ascent.rs",
            "0.75",
            "0.85",
            &["SEARCH"],
        ),
        (
            "src/experiment/studies/measure.rs",
            "a.max(distance)",
            "a.min(distance)",
            &["MEASURE"],
        ),
        (
            "src/bounds/layerwise.rs",
            "norm * first.error +",
            "norm * first.error -",
            &["ALLOCATION", "BOUNDS", "SEARCH", "RESCALING"],
        ),
        (
            "shaders/conv.wgsl",
            "chunk_first + out",
            "chunk_first - out",
            &["GPU"],
        ),
    ];
    for (path, from, to, components) in cases {
        assert_eq!(changed_by(path, replaced(from, to)), components, "{path}");
    }
}

#[test]
fn another_version_of_a_package_that_computes_is_other_code() {
    let gemm = |text: String| {
        let at = text.find("name = \"gemm-f64\"").unwrap();
        let (head, tail) = text.split_at(at);
        format!(
            "{head}{}",
            tail.replacen("version = \"", "version = \"9", 1)
        )
    };
    assert_eq!(changed_by("Cargo.lock", gemm).len(), COMPONENTS.len());
}

#[test]
fn a_moved_file_is_missed_by_name() {
    let copy = copy();
    fs::remove_file(copy.path().join("src/experiment/studies/measure.rs")).unwrap();
    let error = named("MEASURE").hash(copy.path()).unwrap_err();
    assert!(
        error.contains("src/experiment/studies/measure.rs") && error.contains("build/code.rs"),
        "{error}"
    );
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(dir)).unwrap() {
        let path = dir.join(entry.unwrap().file_name());
        if root().join(&path).is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_source_belongs_to_a_component_or_to_those_without_rows() {
    let mut hashed = BTreeSet::new();
    for component in COMPONENTS {
        hashed.extend(component.files(root()).unwrap());
    }
    let mut all = Vec::new();
    sources(Path::new("src"), &mut all);
    sources(Path::new("shaders"), &mut all);
    for path in &all {
        let source = path.extension().is_some_and(|e| e == "rs" || e == "wgsl");
        let without = NO_ROWS.iter().any(|p| path.starts_with(p));
        if source {
            assert!(
                hashed.contains(path) != without,
                "{}: name it in build/code.rs, with the rows that it makes or among those that make none",
                path.display()
            );
        }
    }
    for path in NO_ROWS {
        assert!(root().join(path).exists(), "{path} is not there");
    }
}

/// What sources name of code that their rows do not follow from.
const NO_FORMULA: [(&str, &str); 8] = [
    // The box of the inputs, as two vectors.
    (
        "src/experiment/subject/calibration.rs",
        "src/bounds/domain.rs",
    ),
    ("src/experiment/subject/model.rs", "src/bounds/domain.rs"),
    // What it keeps of bounds and spreads goes into parts that hash them.
    ("src/experiment/subject/context.rs", "src/bounds"),
    (
        "src/experiment/subject/context.rs",
        "src/experiment/subject/kept_norms.rs",
    ),
    (
        "src/experiment/subject/context.rs",
        "src/experiment/subject/spread.rs",
    ),
    // Where bounds allocate bits, ALLOCATION stands in the cell's id.
    ("src/experiment/subject/sensitivity.rs", "src/bounds"),
    ("src/experiment/subject/sensitivity.rs", "src/facts.rs"),
    // The registry of all bounds.
    ("src/bounds/mod.rs", "src/bounds/probabilistic"),
];

#[test]
fn what_a_source_imports_is_hashed_with_it() {
    let code = Crate::read(&root().join("src"));
    let always: BTreeSet<PathBuf> = ["MEASURE", "GPU"]
        .iter()
        .flat_map(|name| named(name).files(root()).unwrap())
        .collect();
    let mut seen = 0;
    for component in COMPONENTS {
        let own: BTreeSet<PathBuf> = component.files(root()).unwrap().into_iter().collect();
        for (from, to) in code.imports() {
            let (from, to) = (Path::new(code.path(&from)), Path::new(code.path(&to)));
            if !own.contains(from) || own.contains(to) || always.contains(to) {
                continue;
            }
            let allowed = NO_ROWS.iter().any(|p| to.starts_with(p))
                || NO_FORMULA
                    .iter()
                    .any(|(a, b)| from.starts_with(a) && to.starts_with(b));
            assert!(
                allowed,
                "{} of component {} imports {}, which is hashed elsewhere: a change there would keep old rows. Name it \
                 in that component of build/code.rs",
                from.display(),
                component.name,
                to.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}
