//! One plan on several machines, and one that is asked to stop: the same bytes as from one undisturbed run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use quantbound::results::provenance::Provenance;
use quantbound::results::schema::file;
use quantbound::results::store::read_json;

use crate::common::tiny::tables;

const BINARY: &str = env!("CARGO_BIN_EXE_quantbound");

/// Four cells of two batches, with a study of batches and one of whole cells.
fn plan(dir: &Path, bits: &str) -> PathBuf {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/imagenet-samples");
    assert!(images.exists(), "run scripts/fetch-assets");
    let text = format!(
        "batch = 2\nbounds = [\"layerwise\", \"channelwise\"]\n[images]\ndir = {images:?}\nlimit = 4\n[[model]]\nname = \"cifar_resnet20\"\n\
         weights = \"random:3\"\n[[quantize]]\nmethod = \"uniform\"\nbits = {bits}\n\
         granularity = [\"per-tensor\", \"per-channel\"]\n[studies]\nisolated = true\ndynamics = true\n"
    );
    let path = dir.join("plan.toml");
    fs::write(&path, text).unwrap();
    path
}

fn command(args: &[&str], paths: &[&Path]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).args(paths).args(["--backend", "cpu"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn fine(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    said(&output)
}

fn sweep(plan: &Path, out: &Path) -> Command {
    command(&["sweep"], &[plan, Path::new("--out"), out])
}

fn shard(plan: &Path, which: &str, out: &Path) -> Command {
    command(
        &["sweep", "--shard", which],
        &[plan, Path::new("--out"), out],
    )
}

fn merge(shards: &[PathBuf], out: &Path) -> Command {
    let mut paths: Vec<&Path> = shards.iter().map(PathBuf::as_path).collect();
    paths.extend([Path::new("--out"), out]);
    command(&["merge"], &paths)
}

fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (tables(a), tables(b));
    assert_eq!(a.len(), b.len());
    for ((name, a), (other, b)) in a.into_iter().zip(b) {
        assert_eq!(name, other);
        assert!(a == b, "{name} differs");
    }
}

#[test]
fn shards_merge_to_the_bytes_of_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let plan_of_four = plan(dir.path(), "[4, 8]");
    fine(sweep(&plan_of_four, &at("whole")));
    // Whole cells each, and single batches where cells are fewer than machines.
    for of in [3, 5] {
        let shards: Vec<PathBuf> = (1..=of).map(|i| at(&format!("{i}-of-{of}"))).collect();
        for (i, out) in shards.iter().enumerate().skip(1) {
            fine(shard(&plan_of_four, &format!("{}/{of}", i + 1), out));
        }
        let first = format!("1/{of}");
        let merged = at(&format!("merged-{of}"));
        // Nothing is computed where a machine is missing.
        let output = merge(&shards[1..], &merged).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("in none of the directories"));
        assert!(!merged.join(file::SUMMARY).exists());
        fine(shard(&plan_of_four, &first, &shards[0]));
        assert!(fine(shard(&plan_of_four, &first, &shards[0])).contains(" 0 parts made now"));
        fine(merge(&shards, &merged));
        assert_same(&at("whole"), &merged);
        let compared = Command::new(BINARY)
            .arg("compare")
            .args([at("whole"), merged.clone()])
            .output()
            .unwrap();
        assert!(said(&compared).starts_with("nothing changed: 4 cells"));
        let made: Provenance = read_json(&merged.join(file::PROVENANCE)).unwrap();
        assert_eq!(made.machines.iter().map(|m| m.batches).sum::<u64>(), 8);
        assert!(made.machines.iter().all(|m| !m.machine.is_empty()));
    }
    let other = plan(dir.path(), "[4, 6]");
    fine(shard(&other, "1/3", &at("other")));
    let output = merge(&[at("1-of-3"), at("other")], &at("mixed")).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("another plan"), "{}", said(&output));
}

#[cfg(unix)]
#[test]
fn a_signal_stops_after_the_part_and_the_same_command_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), "[3, 4, 5, 6, 7, 8]");
    let (whole, out) = (dir.path().join("whole"), dir.path().join("stopped"));
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        // The handlers stand before this file is there.
        if out.exists() {
            fs::remove_file(out.join(file::PROVENANCE)).unwrap();
        }
        let mut child = sweep(&plan, &out).spawn().unwrap();
        while !out.join(file::PROVENANCE).exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(child.try_wait().unwrap().is_none());
        let pid = child.id().to_string();
        Command::new("kill").args([signal, &pid]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(
            said(&output).contains("run the same command again"),
            "{}",
            said(&output)
        );
        assert!(!out.join(file::SUMMARY).exists());
    }
    fine(sweep(&plan, &whole));
    fine(sweep(&plan, &out));
    assert_same(&whole, &out);
}
