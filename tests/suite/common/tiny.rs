//! The smallest plan that a sweep can run: a network of two layers on two pictures without labels.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with pictures and plans.
pub struct Tiny {
    dir: tempfile::TempDir,
}

pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Tiny {
    pub const NETWORK: &str = "tests/fixtures/onnx/reported_relu_max0.onnx";

    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("images")).unwrap();
        let samples = fs::read_dir(source("datasets/imagenet-samples"));
        let samples = samples.expect("run scripts/fetch-assets");
        let mut files: Vec<PathBuf> = samples.map(|f| f.unwrap().path()).collect();
        files.sort();
        for (file, name) in files.iter().zip(["a.jpg", "b.jpg"]) {
            fs::copy(file, dir.path().join("images").join(name)).unwrap();
        }
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `plan.toml` of these networks, each a name and a file, at 4 and 8 bits.
    pub fn plan(&self, networks: &[(&str, PathBuf)]) -> PathBuf {
        self.plan_at(networks, "[4, 8]")
    }

    pub fn plan_at(&self, networks: &[(&str, PathBuf)], bits: &str) -> PathBuf {
        let mut text = format!("batch = 1\n[images]\ndir = {:?}\n", self.path("images"));
        for (name, weights) in networks {
            text += &format!("[[model]]\nname = {name:?}\nweights = {weights:?}\n");
        }
        text += "[[quantize]]\nmethod = \"uniform\"\nscheme = \"asymmetric\"\n";
        text += &format!("bits = {bits}\n");
        let path = self.path("plan.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// The plan of the good network alone.
    pub fn usual(&self) -> PathBuf {
        self.plan(&[("good", source(Self::NETWORK))])
    }
}

/// The program with these arguments, which may be paths.
pub fn program(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quantbound"));
    command.args(args.iter().map(|a| a.as_ref()));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// All that it said, and its exit code.
pub fn said(output: &Output) -> (String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        text(&output.stdout) + &text(&output.stderr),
        output.status.code(),
    )
}

/// Every table of a finished run, by name.
pub fn tables(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    let tables = files.filter(|f| f.extension().is_some_and(|e| e == "parquet"));
    let mut tables: Vec<_> = tables
        .map(|f| {
            let name = f.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(&f).unwrap())
        })
        .collect();
    tables.sort();
    assert!(tables.len() >= 5, "{}", tables.len());
    tables
}
