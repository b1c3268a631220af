//! What only Unix can do to a run: pipes, links, permissions and names that are no text.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

/// What is hashed is what is measured: a pipe can be read once only.
#[test]
fn weights_are_read_once() {
    let folder = folder();
    let pipe = folder.path().join("w.onnx");
    let bytes = fs::read(&pipe).unwrap();
    fs::remove_file(&pipe).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let writer = {
        let (pipe, bytes) = (pipe.clone(), bytes.clone());
        std::thread::spawn(move || fs::write(pipe, bytes).unwrap())
    };
    fine(&run(folder.path(), &["--bits", "8", "--out", "out"]));
    writer.join().unwrap();
    let provenance: Provenance = read_json(&folder.path().join("out/provenance.json")).unwrap();
    let model = &provenance.models[0];
    assert_eq!(
        model.weights_sha256,
        quantbound::data::manifest::sha256_of(&bytes)
    );
    assert!(!model.network.is_empty());
}

#[test]
fn names_that_are_no_text_are_taken_or_named() {
    let folder = folder();
    let odd = OsStr::from_bytes(b"odd\xff");
    let fixed = ["--images", "images", "--bits", "8", "--backend", "cpu"];
    let output = quantbound(folder.path(), "run")
        .args(fixed)
        .arg("--out")
        .arg(odd)
        .output();
    fine(&output.unwrap());
    assert!(folder.path().join(odd).join("report.html").exists());
    let weights = folder.path().join(OsStr::from_bytes(b"w\xff.onnx"));
    fs::copy(folder.path().join("w.onnx"), &weights).unwrap();
    let mut process = Command::new(BINARY);
    process
        .args(["run", "--model", "x", "--weights"])
        .arg(&weights)
        .args(fixed);
    let error = refused(&process.current_dir(folder.path()).output().unwrap());
    assert!(
        error.contains("w\u{fffd}.onnx: the plan cannot be written"),
        "{error}"
    );
}

/// A device has no end, and a folder no bytes.
#[test]
fn what_is_no_file_is_not_read() {
    let folder = folder();
    for (flag, command) in [
        ("--weights", "inspect"),
        ("--quantized", "bounds"),
        ("--preprocessing", "bounds"),
    ] {
        for (path, says) in [("/dev/zero", "a device"), ("images", "a folder")] {
            let mut process = Command::new(BINARY);
            process.args([command, "--model", "x", flag, path]);
            if flag != "--weights" {
                process.args(["--weights", "w.onnx"]);
            }
            if flag == "--preprocessing" {
                process.args(["--bits", "8"]);
            }
            let error = refused(&process.current_dir(folder.path()).output().unwrap());
            assert!(
                error.contains(path) && error.contains(says),
                "{flag}: {error}"
            );
        }
    }
}

/// Renaming a finished file to its name would replace a device by it.
#[test]
fn what_is_no_file_is_not_written_over() {
    let folder = folder();
    let pipe = folder.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for (command, more) in [
        ("quantize", &["--bits", "8"][..]),
        ("quantize", &["--bits", "8", "--format", "qdq-onnx"]),
        ("trace", &["--images", "images"]),
    ] {
        for (out, says) in [("pipe", "a device or a pipe"), ("images", "a folder")] {
            let output = quantbound(folder.path(), command)
                .args(more)
                .args(["--out", out])
                .output();
            let error = refused(&output.unwrap());
            assert!(
                error.contains(out) && error.contains(says),
                "{command}: {error}"
            );
        }
    }
    assert!(!fs::metadata(&pipe).unwrap().is_file());
    let store = quantbound::results::store::write_bytes(&pipe, b"x");
    assert!(
        store
            .unwrap_err()
            .to_string()
            .contains("a device or a pipe")
    );
}

/// Files may not grow beyond a few blocks here, which is to a program what a full disk is.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_does_not_fit_leaves_nothing_and_what_was_there() {
    for (command, more) in [
        ("quantize", "--bits 8"),
        ("quantize", "--bits 8 --format qdq-onnx"),
        ("trace", "--images images --backend cpu"),
    ] {
        let folder = folder();
        fs::write(folder.path().join("out"), b"before").unwrap();
        // SIGXFSZ is ignored, so that the write itself fails.
        let script = format!(
            "trap '' XFSZ; ulimit -f 1; exec \"$0\" {command} --model x --weights w.onnx {more} --out out --force"
        );
        let output = Command::new("bash")
            .args(["-c", &script, BINARY])
            .current_dir(folder.path())
            .output();
        let error = refused(&output.unwrap());
        assert!(error.contains("out"), "{error}");
        assert_eq!(
            names(folder.path()),
            ["images", "out", "w.onnx"],
            "{command} {more}"
        );
        assert_eq!(fs::read(folder.path().join("out")).unwrap(), b"before");
    }
}

/// 300 MB of nothing as the colour profile of a picture of 16 x 16, in 0.3 MB: read in less than that.
#[cfg(target_os = "linux")]
#[test]
fn a_colour_profile_is_not_unpacked() {
    use image::ImageEncoder;
    let folder = folder();
    let file = fs::File::create(folder.path().join("images/profile.png")).unwrap();
    let mut encoder = image::codecs::png::PngEncoder::new(file);
    encoder.set_icc_profile(vec![0; 300 << 20]).unwrap();
    let pixels = [90; 16 * 16 * 3];
    encoder
        .write_image(&pixels, 16, 16, image::ExtendedColorType::Rgb8)
        .unwrap();
    let script = "ulimit -v 300000; exec \"$0\" trace --model x --weights w.onnx --images images \
                  --backend cpu --threads 1 --out out";
    let output = Command::new("bash")
        .args(["-c", script, BINARY])
        .current_dir(folder.path())
        .output();
    fine(&output.unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn help_that_cannot_be_printed_is_an_error() {
    for arguments in [&["--help"][..], &["sweep", "--help"], &["--version"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(BINARY).args(arguments).stdout(full).output();
        let error = refused(&output.unwrap());
        assert!(error.contains("standard output: No space left"), "{error}");
    }
    // Wrong usage is said on the other stream.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(BINARY).arg("no-such").stderr(full).output();
    refused(&output.unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error_that_says_so() {
    let folder = folder();
    let commands: [(&str, &[&str]); 4] = [
        ("inspect", &[]),
        ("inspect", &["--json"]),
        ("bounds", &["--bits", "8"]),
        (
            "run",
            &["--bits", "8", "--images", "images", "--backend", "cpu"],
        ),
    ];
    for (command, more) in commands {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = quantbound(folder.path(), command)
            .args(more)
            .stdout(full)
            .output();
        let error = refused(&output.unwrap());
        assert!(
            error.contains("standard output: No space left"),
            "{command}: {error}"
        );
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = quantbound(folder.path(), command)
            .args(more)
            .stderr(full)
            .output();
        fine(&output.unwrap());
    }
}
