//! The flags that say what is done to pictures: what they make of pixels, who takes them, what is refused.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use quantbound::data::{IMAGENET, Interpolation, PerChannel, Preprocessing, Size};
use safetensors::SafeTensors;

/// A network that takes 3 x 16 x 16.
fn network() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/reported_relu_max0.onnx")
}

fn quantbound(command: &str, folder: &Path, more: &[&str]) -> Output {
    Command::cargo_bin("quantbound")
        .unwrap()
        .args([command, "--model", "x", "--weights"])
        .arg(network())
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// A folder with `images/a.png`, on which every pixel differs.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("images")).unwrap();
    let picture = image::RgbImage::from_fn(40, 32, |x, y| {
        image::Rgb([(x * 6) as u8, (y * 7) as u8, (x * y % 251) as u8])
    });
    picture.save(folder.path().join("images/a.png")).unwrap();
    folder
}

/// The network's input under these flags, and what was said.
fn input(folder: &Path, flags: &[&str]) -> (Vec<f32>, String) {
    let fixed = [
        "--images",
        "images",
        "--backend",
        "cpu",
        "--out",
        "t",
        "--force",
    ];
    let output = quantbound("trace", folder, &[&fixed, flags].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{flags:?}: {said}");
    let bytes = std::fs::read(folder.join("t")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("input").unwrap();
    assert_eq!(view.shape(), [1, 3, 16, 16]);
    let (chunks, _) = view.data().as_chunks::<4>();
    (
        chunks.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        said,
    )
}

#[test]
fn every_flag_does_to_pixels_what_it_says() {
    let folder = folder();
    let path = folder.path().join("images/a.png");
    let as_it_is = Preprocessing {
        resize: Size::Side(16),
        crop: Size::Side(16),
        ..IMAGENET
    };
    let plain = input(folder.path(), &[]).0;
    assert_eq!(plain, as_it_is.load(&path).unwrap());

    let (values, said) = input(
        folder.path(),
        &["--resize", "24", "--interpolation", "bicubic"],
    );
    let other = Preprocessing {
        resize: Size::Side(24),
        interpolation: Interpolation::Bicubic,
        ..as_it_is.clone()
    };
    assert_eq!(values, other.load(&path).unwrap());
    assert_ne!(values, plain);
    assert!(
        said.contains("x: pictures: shorter side to 24 (bicubic), centre 16 of it")
            && said.contains("as given"),
        "{said}"
    );

    let (values, _) = input(
        folder.path(),
        &[
            "--mean",
            "0.5,0.25,0.125",
            "--std",
            "0.5",
            "--resize",
            "16x16",
        ],
    );
    let other = Preprocessing {
        resize: Size::Both([16, 16]),
        mean: PerChannel::three([0.5, 0.25, 0.125]),
        std: PerChannel::all(0.5),
        ..as_it_is.clone()
    };
    assert_eq!(values, other.load(&path).unwrap());

    let pixels = ["--input-range", "0,255", "--mean", "0", "--std", "1"];
    let (values, _) = input(folder.path(), &pixels);
    let raw = as_it_is.pixels(&path).unwrap();
    for (i, pixel) in raw.as_bytes().chunks(3).enumerate() {
        assert_eq!(
            [0, 1, 2].map(|c| values[c * 256 + i]),
            [0, 1, 2].map(|c| f32::from(pixel[c]))
        );
    }
    let (swapped, _) = input(
        folder.path(),
        &[&pixels[..], &["--channels", "bgr"]].concat(),
    );
    assert_eq!(swapped[..256], values[512..]);
    assert_eq!(swapped[512..], values[..256]);
    assert_ne!(swapped, values);
}

#[test]
fn a_file_says_the_same_as_flags_and_flags_come_first() {
    let folder = folder();
    let timm = r#"{"input_size": [3, 16, 16], "crop_pct": 0.5, "interpolation": "bicubic",
                   "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}"#;
    std::fs::write(folder.path().join("timm.json"), timm).unwrap();
    let (from_file, said) = input(folder.path(), &["--preprocessing", "timm.json"]);
    assert!(said.contains("from timm.json"), "{said}");
    let flags = [
        "--resize",
        "32",
        "--interpolation",
        "bicubic",
        "--mean",
        "0.5",
        "--std",
        "0.25",
    ];
    assert_eq!(from_file, input(folder.path(), &flags).0);
    let (both, said) = input(
        folder.path(),
        &["--preprocessing", "timm.json", "--mean", "0.25"],
    );
    assert!(said.contains("as given, the rest from timm.json"), "{said}");
    let shift = |(a, b): (&f32, &f32)| assert!((a - b - 1.0).abs() < 1e-5, "{a} {b}");
    both.iter().zip(&from_file).for_each(shift);
}

#[test]
fn every_command_that_takes_images_takes_the_flags() {
    let commands = "run bounds guarantees search dynamics quantize trace doctor";
    for command in commands.split(' ') {
        let help = Command::cargo_bin("quantbound")
            .unwrap()
            .args([command, "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        for flag in
            "resize crop interpolation mean std input-range channels preprocessing".split(' ')
        {
            assert!(help.contains(&format!("--{flag} <")), "{command}: --{flag}");
        }
    }
}

#[test]
fn settings_that_cannot_be_are_refused_before_any_work() {
    let folder = folder();
    let refused = |flags: &[&str]| {
        let fixed = ["--images", "images", "--bits", "8", "--backend", "cpu"];
        let output = quantbound("run", folder.path(), &[&fixed, flags].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {error}");
        assert!(!error.contains("quantizing"), "{error}");
        assert!(!folder.path().join("results").exists(), "{flags:?}");
        error
    };
    let error = refused(&["--mean", "123.7,116.3,103.5", "--std", "58.4,57.1,57.4"]);
    assert!(error.contains("--input-range 0,255"), "{error}");
    let error = refused(&["--std", "1000"]);
    assert!(error.contains("same units"), "{error}");
    let error = refused(&["--crop", "20", "--resize", "24"]);
    assert!(error.contains("--crop 16"), "{error}");
    let error = refused(&["--channels", "grey"]);
    assert!(error.contains("grey"), "{error}");
    let error = refused(&["--mean", "0.1,0.2"]);
    assert!(error.contains("mean"), "{error}");
    let error = refused(&["--preprocessing", "absent.json"]);
    assert!(error.contains("absent.json"), "{error}");
    for flags in [
        ["--interpolation", "cubic"],
        ["--input-range", "0"],
        ["--resize", "0"],
    ] {
        refused(&flags);
    }
}
