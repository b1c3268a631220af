//! Gives the crate the hashes of the code that stored rows depend on, its commit and its compiler.

#[path = "build/code.rs"]
mod code;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

fn main() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).map_err(|e| format!("{name}: {e}"));
    let root = variable("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&root);
    let mut constants = String::new();
    for component in code::COMPONENTS {
        for path in component.paths {
            println!("cargo:rerun-if-changed={path}");
        }
        let name = component.name;
        let hash = component.hash(root)?;
        let written = writeln!(constants, "pub const {name}: &str = \"{hash}\";");
        written.map_err(|e| e.to_string())?;
    }
    println!("cargo:rerun-if-changed=Cargo.lock");
    println!("cargo:rerun-if-changed=build/code.rs");
    let path = Path::new(&variable("OUT_DIR")?).join("code.rs");
    std::fs::write(&path, constants).map_err(|e| format!("{}: {e}", path.display()))?;

    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_string())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=QUANTBOUND_COMMIT={commit}");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().ok();
    let version = version
        .and_then(|o| String::from_utf8(o.stdout).ok())
        .unwrap_or_default();
    println!("cargo:rustc-env=QUANTBOUND_RUSTC={}", version.trim());
    Ok(())
}
