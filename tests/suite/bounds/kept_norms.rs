//! Norms of a reference network that an earlier run found.

use std::process::Command;
use std::sync::Arc;

use crate::common::checker::runner;
use crate::common::random_network::{Case, cases};
use proptest::test_runner::TestCaseError;
use quantbound::bounds::{ReferenceNorms, Setting, ladder};

type Ladder = Vec<(String, Vec<f64>)>;

fn evaluated(case: &Case, norms: &Arc<ReferenceNorms<'_>>) -> Ladder {
    let setting = Setting::sharing(norms, &case.quantized, &case.domain).unwrap();
    let rungs = ladder(&setting, None).into_iter();
    rungs
        .filter_map(|(id, s)| Some((id, s.ok()?.log10)))
        .collect()
}

/// The same ladder to the bit, and nothing is found that was not there; bytes of no such list are as none.
#[test]
fn norms_found_before_give_the_same_ladder() {
    let result = runner(60).run(&cases(6), |case| {
        let first = ReferenceNorms::new(&case.network);
        let want = evaluated(&case, &first);
        let found = first.found();
        for (bytes, all) in [(&found[..], true), (&found[..found.len() / 2], false)] {
            let again = ReferenceNorms::new(&case.network);
            again.learn(bytes);
            if all && again.found() != found {
                return Err(TestCaseError::fail("not all was taken over"));
            }
            let ladder = evaluated(&case, &again);
            if ladder != want {
                return Err(TestCaseError::fail(format!(
                    "{ladder:?} instead of {want:?}"
                )));
            }
            if again.found() != found {
                return Err(TestCaseError::fail("something else was found"));
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A run finds what an earlier one left only where network and code are the same, and only whole.
#[test]
fn runs_leave_norms_to_those_that_follow() {
    let cache = tempfile::tempdir().unwrap();
    let bounds = |seed: u32, cache: Option<&std::path::Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quantbound"));
        command.args([
            "bounds",
            "--model",
            "cifar_resnet20",
            "--bits",
            "4",
            "--json",
        ]);
        command.args(["--granularity", "per-channel", "--only", "best"]);
        command.args(["--weights", &format!("random:{seed}")]);
        let other = tempfile::tempdir().unwrap();
        command.env("QUANTBOUND_CACHE", cache.unwrap_or(other.path()));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let files = || {
        let folder = std::fs::read_dir(cache.path().join("bounds")).unwrap();
        let mut files: Vec<_> = folder.map(|f| f.unwrap().path()).collect();
        files.sort();
        files
    };
    let (first, second) = (bounds(1, None), bounds(2, None));
    assert_ne!(first, second);
    assert_eq!(bounds(1, Some(cache.path())), first);
    let left = files();
    assert_eq!(left.len(), 1, "{left:?}");
    let bytes = std::fs::read(&left[0]).unwrap();
    assert_eq!(bounds(1, Some(cache.path())), first);
    assert_eq!(std::fs::read(&left[0]).unwrap(), bytes);
    // Another network's are its own.
    assert_eq!(bounds(2, Some(cache.path())), second);
    assert_eq!(files().len(), 2);
    let mut damaged = bytes.clone();
    let last = damaged.len() - 20;
    damaged[last] ^= 1;
    std::fs::write(&left[0], &damaged).unwrap();
    assert_eq!(bounds(1, Some(cache.path())), first);
    assert_eq!(std::fs::read(&left[0]).unwrap(), bytes);
}
