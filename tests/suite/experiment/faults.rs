//! What befalls a sweep from outside: kills, a full disk, a directory that goes away. The result is that of the
//! undisturbed run, or an error that names the file.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use quantbound::results::schema::file;

use crate::common::tiny::{Tiny, program, said, source, tables};

fn plan(tiny: &Tiny) -> std::path::PathBuf {
    tiny.plan_at(&[("good", source(Tiny::NETWORK))], "[3, 4, 5, 6, 8, 12]")
}

#[test]
fn fifty_kills_leave_the_run_as_it_would_have_been() {
    let tiny = Tiny::new();
    let plan = plan(&tiny);
    let sweep = |out: &str| {
        program(&[
            &"sweep",
            &plan,
            &"--out",
            &tiny.path(out),
            &"--backend",
            &"cpu",
        ])
    };
    let started = Instant::now();
    assert_eq!(said(&sweep("whole").output().unwrap()).1, Some(0));
    let whole = started.elapsed();
    let expected = tables(&tiny.path("whole"));
    let (mut kills, mut finished, mut run, mut state) = (0, 0, 0u32, 20_261_126u64);
    while kills < 50 {
        let out = format!("killed-{run}");
        let mut child = sweep(&out).spawn().unwrap();
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let share = (state >> 40) as f64 / (1u64 << 24) as f64;
        std::thread::sleep(whole.mul_f64(share));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        if status.code().is_none() {
            kills += 1;
            continue;
        }
        // Faster than the kill: a fresh directory for the next ones.
        assert_eq!(status.code(), Some(0));
        assert!(tables(&tiny.path(&out)) == expected, "{out}");
        finished += 1;
        run += 1;
    }
    let out = format!("killed-{run}");
    let (text, code) = said(&sweep(&out).output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    assert!(
        tables(&tiny.path(&out)) == expected,
        "after {finished} others"
    );
    // Nothing half-written stays.
    let left = fs::read_dir(tiny.path(&out)).unwrap();
    let left = left.map(|f| f.unwrap().file_name().to_string_lossy().into_owned());
    assert!(!left.into_iter().any(|name| name.contains(".tmp-")));
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_named_and_the_run_goes_on_when_there_is_room() {
    let tiny = Tiny::new();
    let plan = plan(&tiny);
    let args = |out: &str| {
        let out = tiny.path(out).display().to_string();
        [
            "sweep".into(),
            plan.display().to_string(),
            "--out".into(),
            out,
        ]
    };
    let run = |out: &str, limit: &str| {
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\"");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_quantbound")]);
        said(
            &shell
                .args(args(out))
                .args(["--backend", "cpu"])
                .output()
                .unwrap(),
        )
    };
    let (text, code) = run("whole", "unlimited");
    assert_eq!(code, Some(0), "{text}");
    // No file over 6 KiB can be written.
    let (text, code) = run("full", "6");
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("cannot be written") && text.contains("full"),
        "{text}"
    );
    assert!(text.contains("run the same command again"), "{text}");
    assert!(!tiny.path("full").join(file::SUMMARY).exists());
    let (text, code) = run("full", "unlimited");
    assert_eq!(code, Some(0), "{text}");
    assert!(tables(&tiny.path("full")) == tables(&tiny.path("whole")));
}

#[test]
fn a_place_that_cannot_be_written_is_refused_by_name() {
    let tiny = Tiny::new();
    let plan = plan(&tiny);
    let below_a_file = plan.join("run");
    let mut sweep = program(&[
        &"sweep",
        &plan,
        &"--out",
        &below_a_file,
        &"--backend",
        &"cpu",
    ]);
    let (text, code) = said(&sweep.output().unwrap());
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("plan.toml/run"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_run_directory_that_goes_away_is_an_error_and_no_result() {
    let tiny = Tiny::new();
    let plan = plan(&tiny);
    let out = tiny.path("gone");
    let sweep = || program(&[&"sweep", &plan, &"--out", &out, &"--backend", &"cpu"]);
    let child = sweep().spawn().unwrap();
    let pid = child.id().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &pid]).status().unwrap();
    let started = Instant::now();
    while !out.join(file::PROVENANCE).exists() {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    signal("-STOP");
    let finished = out.join(file::SUMMARY).exists();
    fs::remove_dir_all(&out).unwrap();
    signal("-CONT");
    let (text, code) = said(&child.wait_with_output().unwrap());
    if !finished {
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("gone"), "{text}");
        assert!(!out.join(file::SUMMARY).exists());
    }
    let (text, code) = said(&sweep().output().unwrap());
    assert_eq!(code, Some(0), "{text}");
}
