//! Every kernel's assembled text is valid, agrees with its Rust side, and shares what it shares. Needs no GPU.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use quantbound::engine::gpu::catalog::kernels;
use quantbound::engine::gpu::library::{Code, PARTS};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The stems of a folder's shaders.
fn stems(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder of shaders");
    let files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    let files = files.iter().filter(|f| f.is_file());
    let stem = |f: &PathBuf| {
        assert!(
            f.extension().is_some_and(|e| e == "wgsl"),
            "{} is no shader",
            f.display()
        );
        f.file_stem().unwrap().to_string_lossy().into_owned()
    };
    files.map(stem).collect()
}

fn parsed(code: &Code) -> naga::Module {
    let text = code.assembled();
    naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|e| panic!("{}: {}", code.name, e.emit_to_string(&text)))
}

#[test]
fn every_kernel_is_valid_as_assembled() {
    for code in kernels() {
        let module = parsed(code);
        let mut validator = naga::valid::Validator::new(
            naga::valid::ValidationFlags::all(),
            // Vectors of lanes are asked for only where the adapter has them.
            naga::valid::Capabilities::SUBGROUP,
        );
        if let Err(e) = validator.validate(&module) {
            panic!("{}: {}", code.name, e.emit_to_string(&code.assembled()));
        }
        let entries: Vec<&str> = module
            .entry_points
            .iter()
            .map(|e| e.name.as_str())
            .collect();
        assert_eq!(entries, ["main"], "{}", code.name);
    }
}

#[test]
fn every_shader_is_a_kernel_or_a_part_with_its_rust_file() {
    let names = |all: Vec<&str>| all.iter().map(|n| n.to_string()).collect::<BTreeSet<_>>();
    let codes = kernels();
    assert_eq!(
        names(codes.iter().map(|c| c.name).collect()),
        stems("shaders")
    );
    assert_eq!(
        names(PARTS.iter().map(|p| p.name).collect()),
        stems("shaders/lib")
    );
    for code in codes {
        let text = fs::read_to_string(root().join(format!("shaders/{}.wgsl", code.name))).unwrap();
        assert_eq!(text, code.source, "{} includes another file", code.name);
        let rust = root().join(format!("src/engine/gpu/{}.rs", code.name));
        assert!(rust.is_file(), "{} has no {}", code.name, rust.display());
    }
}

#[test]
fn every_part_is_needed_where_it_is_named() {
    for code in kernels() {
        for part in code.parts {
            let others = code.parts.iter().filter(|p| p.name != part.name);
            let rest: Vec<&str> = others.map(|p| p.source).chain([code.source]).collect();
            let rest = rest.join("\n");
            let used = functions(part.source).into_iter().any(|f| {
                let call = format!("{}(", f.0);
                rest.contains(&call)
            });
            assert!(used, "{} does not use lib/{}", code.name, part.name);
        }
    }
}

/// Names and bodies of a text's functions.
fn functions(text: &str) -> Vec<(String, String)> {
    let starts = text.match_indices("fn ").filter(|(i, _)| {
        let before = text[..*i].chars().next_back();
        before.is_none_or(char::is_whitespace)
    });
    let function = |(at, _): (usize, &str)| {
        let rest = &text[at + 3..];
        let name = &rest[..rest.find('(').unwrap()];
        let end = rest.find("\n}").unwrap();
        let body = &rest[rest[..end].find('{').unwrap()..end];
        let body: Vec<&str> = body.split_whitespace().collect();
        (name.to_string(), body.join(" "))
    };
    starts.map(function).collect()
}

#[test]
fn no_function_stands_in_two_shaders() {
    // A part may leave functions to its kernels: each of them says in its own way how it is done.
    let left_to_kernels = |name: &str| {
        let call = format!(" {name}(");
        PARTS.iter().any(|p| p.source.contains(&call))
            && PARTS
                .iter()
                .all(|p| functions(p.source).iter().all(|f| f.0 != name))
    };
    let mut names = BTreeMap::new();
    let mut bodies = BTreeMap::new();
    let kernels = kernels();
    let kernels = kernels.iter().map(|c| (c.name.to_string(), c.source));
    let parts = PARTS.iter().map(|p| (format!("lib/{}", p.name), p.source));
    for (file, source) in kernels.chain(parts) {
        for (name, body) in functions(source) {
            if name != "main"
                && !left_to_kernels(&name)
                && let Some(other) = names.insert(name.clone(), file.clone())
            {
                panic!("fn {name} stands in {other} and in {file}");
            }
            if let Some(other) = bodies.insert(body, format!("{file}: {name}")) {
                panic!("{other} and {file}: {name} do the same");
            }
        }
    }
    assert!(names.len() > 8, "functions were not found: {names:?}");
}

/// The Rust spelling of a type in a uniform struct.
fn spelled(module: &naga::Module, ty: naga::Handle<naga::Type>) -> &'static str {
    match &module.types[ty].inner {
        naga::TypeInner::Scalar(naga::Scalar::U32) => "u32",
        naga::TypeInner::Scalar(naga::Scalar::F32) => "f32",
        naga::TypeInner::Vector {
            size: naga::VectorSize::Bi,
            scalar: naga::Scalar::F32,
        } => "[f32; 2]",
        other => panic!("a uniform of {other:?}"),
    }
}

#[test]
fn uniform_structs_lie_as_their_shaders_say() {
    for code in kernels() {
        let module = parsed(code);
        let uniform = module
            .global_variables
            .iter()
            .find(|(_, v)| v.space == naga::AddressSpace::Uniform)
            .map(|(_, v)| v)
            .unwrap_or_else(|| panic!("{} has no uniform struct", code.name));
        let binding = uniform.binding.as_ref().map(|b| (b.group, b.binding));
        assert_eq!(binding, Some((0, 0)), "{}", code.name);
        let naga::TypeInner::Struct { members, .. } = &module.types[uniform.ty].inner else {
            panic!("{}: the uniform is no struct", code.name);
        };
        let shader: Vec<_> = members
            .iter()
            .map(|m| {
                let name = m.name.as_deref().unwrap_or_default();
                (name, m.offset as usize, spelled(&module, m.ty))
            })
            .collect();
        let rust: Vec<_> = code
            .fields
            .iter()
            .map(|f| (f.name, f.offset, f.ty))
            .collect();
        assert_eq!(rust, shader, "{}", code.name);
    }
}

#[test]
fn bindings_are_numbered_as_they_are_bound() {
    for code in kernels() {
        let module = parsed(code);
        let mut found = BTreeMap::new();
        for (_, variable) in module.global_variables.iter() {
            let naga::AddressSpace::Storage { access } = variable.space else {
                continue;
            };
            let binding = variable.binding.as_ref().map(|b| b.binding);
            let written = access.contains(naga::StorageAccess::STORE);
            found.insert(binding.expect("a storage binding"), written);
        }
        let expected: BTreeMap<u32, bool> = (1..=code.inputs + code.outputs)
            .map(|i| (i, i > code.inputs))
            .collect();
        assert_eq!(found, expected, "{}", code.name);
    }
}
