//! Every shader is valid as it stands and has its Rust file. Needs no GPU.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shaders() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("shaders")).expect("the folder of shaders");
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no shaders");
    for file in &files {
        assert_eq!(
            file.extension().and_then(|e| e.to_str()),
            Some("wgsl"),
            "{} is no shader",
            file.display()
        );
    }
    files
}

#[test]
fn every_shader_is_valid() {
    for file in shaders() {
        let text = fs::read_to_string(&file).unwrap();
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|e| panic!("{}: {}", file.display(), e.emit_to_string(&text)));
        let mut validator = naga::valid::Validator::new(
            naga::valid::ValidationFlags::all(),
            naga::valid::Capabilities::empty(),
        );
        if let Err(e) = validator.validate(&module) {
            panic!("{}: {}", file.display(), e.emit_to_string(&text));
        }
        let entries: Vec<&str> = module
            .entry_points
            .iter()
            .map(|e| e.name.as_str())
            .collect();
        assert_eq!(entries, ["main"], "{}", file.display());
    }
}

#[test]
fn every_shader_has_its_rust_file_and_is_used_there() {
    for file in shaders() {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let rust = root().join(format!("src/engine/gpu/{stem}.rs"));
        let text = fs::read_to_string(&rust)
            .unwrap_or_else(|e| panic!("{} has no {}: {e}", file.display(), rust.display()));
        assert!(
            text.contains(&format!("shaders/{stem}.wgsl")),
            "{} does not include its shader",
            rust.display()
        );
    }
}

#[test]
fn every_kernel_names_a_shader_that_exists() {
    let stems: BTreeSet<String> = shaders()
        .iter()
        .map(|f| f.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut used = BTreeSet::new();
    for entry in fs::read_dir(root().join("src/engine/gpu")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines().filter(|l| l.contains("include_str!")) {
            let path = line.split('"').nth(1).unwrap_or_default();
            let stem = Path::new(path).file_stem().unwrap();
            used.insert(stem.to_string_lossy().into_owned());
        }
    }
    assert_eq!(used, stems);
}
