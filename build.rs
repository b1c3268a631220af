//! Hashes what results depend on, so that a changed kernel or bound never reuses old cells.

use std::path::Path;
use std::process::Command;

fn main() {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for dir in [
        "shaders",
        "src/tensor",
        "src/network",
        "src/quant",
        "src/bounds",
        "src/facts.rs",
        "src/engine",
        "src/data",
        "src/experiment/augment.rs",
        "src/experiment/calibration.rs",
        "src/experiment/sensitivity.rs",
    ] {
        println!("cargo:rerun-if-changed={dir}");
        add(Path::new(dir), &mut hash);
    }
    println!("cargo:rustc-env=QUANTBOUND_CODE={hash:016x}");

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
}

/// FNV-1a over names and contents, in name order.
fn add(path: &Path, hash: &mut u64) {
    let mut absorb = |bytes: &[u8]| {
        for &b in bytes {
            *hash = (*hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    if let Ok(entries) = std::fs::read_dir(path) {
        let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths {
            add(&path, hash);
        }
    } else if let Ok(bytes) = std::fs::read(path) {
        absorb(path.to_string_lossy().as_bytes());
        absorb(&bytes);
    }
}
