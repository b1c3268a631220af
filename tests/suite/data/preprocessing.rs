//! Preprocessing against Pillow: the goldens are written by scripts/oracle/preprocessing.py.

use std::path::Path;

use image::{Rgb, RgbImage};
use quantbound::data::{
    Channels, DataError, IMAGENET, ImageSet, Interpolation, OPENNSFW, Preprocessing, Size,
};
use safetensors::SafeTensors;

/// How two sets of 8-bit samples differ.
#[derive(Debug, Default)]
struct Difference {
    samples: usize,
    differing: usize,
    max: u8,
    sum: u64,
}

impl Difference {
    fn between(ours: &[u8], theirs: &[u8]) -> Self {
        assert_eq!(ours.len(), theirs.len());
        let mut d = Self {
            samples: ours.len(),
            ..Self::default()
        };
        for (a, b) in ours.iter().zip(theirs) {
            let diff = a.abs_diff(*b);
            d.differing += usize::from(diff > 0);
            d.max = d.max.max(diff);
            d.sum += u64::from(diff);
        }
        d
    }

    fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.differing += other.differing;
        self.max = self.max.max(other.max);
        self.sum += other.sum;
    }

    fn mean(&self) -> f64 {
        self.sum as f64 / self.samples as f64
    }
}

/// The picture that scripts/oracle/preprocessing.py draws.
fn synthetic(width: u32, height: u32) -> RgbImage {
    let sample = |x: u32, y: u32, c: u32| -> u8 {
        let mut h = x
            .wrapping_mul(0x9E37_79B1)
            .wrapping_add(y.wrapping_mul(0x85EB_CA6B))
            .wrapping_add(c.wrapping_mul(0xC2B2_AE35));
        h ^= h >> 15;
        h = h.wrapping_mul(0x2C1B_3C6D);
        h ^= h >> 12;
        if (x / 16 + y / 16).is_multiple_of(5) {
            return if ((x + c) / 4).is_multiple_of(2) {
                0
            } else {
                255
            };
        }
        let slope = (x * x * (c + 1) / 97 + y * (c + 3) * 2) % 448;
        let slope = if slope < 224 { slope } else { 447 - slope };
        (slope + (h & 31)) as u8
    };
    RgbImage::from_fn(
        width,
        height,
        |x, y| Rgb([0, 1, 2].map(|c| sample(x, y, c))),
    )
}

fn interpolation(name: &str) -> Interpolation {
    match name {
        "bilinear" => Interpolation::Bilinear,
        "bicubic" => Interpolation::Bicubic,
        other => panic!("unknown interpolation {other}"),
    }
}

/// Every `step`-th row and column.
fn grid(image: &RgbImage, step: usize) -> Vec<u8> {
    let rows = (0..image.height()).step_by(step);
    rows.flat_map(|y| {
        (0..image.width())
            .step_by(step)
            .flat_map(move |x| image.get_pixel(x, y).0)
    })
    .collect()
}

/// Coefficients are rounded to at least 14 bits here and to 22 in Pillow, and each of the two passes rounds to 8
/// bits: a sample can only go the other way, by one unit, where it falls within 255 * taps * 2^-15 (a few
/// hundredths) of a rounding boundary. At the ratio 5 / 4 weights are tenths and exact ties are frequent.
#[test]
fn png_crops_are_pillows_within_one_unit() {
    let bytes = crate::common::goldens::read("preprocessing.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut total = Difference::default();
    let mut cases = 0;
    for (name, view) in file.iter() {
        let parts: Vec<&str> = name.split('/').collect();
        let ["synthetic", size, kernel, resize, crop, step] = parts[..] else {
            continue;
        };
        let (width, height) = size.split_once('x').unwrap();
        let path = directory.path().join(format!("{size}.png"));
        synthetic(width.parse().unwrap(), height.parse().unwrap())
            .save(&path)
            .unwrap();
        let preprocessing = Preprocessing {
            resize: resize.parse().unwrap(),
            crop: crop.parse().unwrap(),
            interpolation: interpolation(kernel),
            ..IMAGENET
        };
        let ours = grid(
            &preprocessing.pixels(&path).unwrap().into_rgb8(),
            step.parse().unwrap(),
        );
        let difference = Difference::between(&ours, view.data());
        println!("{name}: {difference:?}");
        assert!(difference.max <= 1, "{name}: {difference:?}");
        let allowed = if size == "60x60" { 0.1 } else { 0.02 };
        assert!(difference.mean() <= allowed, "{name}: {difference:?}");
        total.add(&difference);
        cases += 1;
    }
    println!("all: {total:?}");
    assert_eq!(cases, 30);
    assert!(total.mean() <= 0.01, "{total:?}");
}

#[test]
fn every_format_becomes_pillows_rgb() {
    let bytes = crate::common::goldens::read("preprocessing.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let as_it_is = Preprocessing {
        resize: Size::Side(23),
        crop: Size::Side(23),
        ..IMAGENET
    };
    let mut cases = 0;
    for (name, view) in file.iter() {
        let Some(image) = name.strip_prefix("formats/") else {
            continue;
        };
        let path = crate::common::goldens::repository("tests/goldens/images").join(image);
        let ours = as_it_is.pixels(&path).unwrap();
        let difference = Difference::between(ours.as_bytes(), view.data());
        println!("{name}: {difference:?}");
        assert_eq!(difference.max, 0, "{name}: {difference:?}");
        cases += 1;
    }
    assert_eq!(cases, 12);
}

/// The decoder is Pillow's; the two passes of the resizing may round a tie the other way.
#[test]
fn sample_photographs_are_pillows_within_one_unit() {
    let samples = crate::common::goldens::asset("imagenet-samples");
    let bytes = crate::common::goldens::read("preprocessing.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut total = Difference::default();
    let mut cases = 0;
    for (name, view) in file.iter() {
        let parts: Vec<&str> = name.split('/').collect();
        let ["samples", kernel, image] = parts[..] else {
            continue;
        };
        let preprocessing = Preprocessing {
            interpolation: interpolation(kernel),
            ..IMAGENET
        };
        let ours = grid(
            &preprocessing
                .pixels(&samples.join(image))
                .unwrap()
                .into_rgb8(),
            14,
        );
        let difference = Difference::between(&ours, view.data());
        assert!(difference.max <= 1, "{name}: {difference:?}");
        assert!(difference.mean() <= 0.005, "{name}: {difference:?}");
        total.add(&difference);
        cases += 1;
    }
    println!("{total:?}, mean {}", total.mean());
    assert_eq!(cases, 40);
    assert!(total.mean() <= 0.001, "{total:?}");
}

#[test]
fn normalisation_is_torchvisions_arithmetic() {
    let pixels: Vec<u8> = (0..=255).flat_map(|v| [v, v, v]).collect();
    let planes = IMAGENET.normalize(&pixels);
    for (c, plane) in planes.chunks(256).enumerate() {
        for (v, got) in plane.iter().enumerate() {
            let unit = v as f32 / 255.0f32;
            let expected = (unit - IMAGENET.mean[c]) / IMAGENET.std[c];
            assert_eq!(
                got.to_bits(),
                expected.to_bits(),
                "channel {c}, pixel {v}: {got} and {expected}"
            );
        }
    }
    // PyTorch 2: ((torch.tensor([0, 1, 128, 255], dtype=torch.uint8) / 255) - mean) / std, first channel.
    let expected: [f32; 4] = [-2.117_904, -2.100_779_3, 0.074_064_63, 2.248_908_3];
    assert_eq!([0, 1, 128, 255].map(|v: usize| planes[v]), expected);
}

#[test]
fn bgr_networks_see_blue_first() {
    let bgr = Preprocessing {
        channels: Channels::Bgr,
        ..OPENNSFW
    };
    let rgb = Preprocessing {
        channels: Channels::Rgb,
        ..OPENNSFW
    };
    assert_eq!(bgr.normalize(&[1, 2, 3]), rgb.normalize(&[3, 2, 1]));
    let caffe = OPENNSFW.normalize(&[255, 117, 0]);
    for (got, expected) in caffe.iter().zip([-104.0, 0.0, 132.0]) {
        // Two roundings of numbers up to 255.
        assert!((got - expected).abs() <= 255.0 * f32::EPSILON, "{got}");
    }
}

fn message(result: Result<impl Sized, DataError>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn damaged_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let load = |path: &Path| {
        let preprocessing = Preprocessing {
            resize: Size::Side(23),
            crop: Size::Side(23),
            ..IMAGENET
        };
        message(preprocessing.load(path))
    };
    for name in [
        "yuv420.jpg",
        "yuv444_progressive.jpg",
        "rgb.png",
        "palette.png",
    ] {
        let whole = crate::common::goldens::read(&format!("images/{name}"));
        for keep in [0, 1, 10, whole.len() / 2, whole.len() * 9 / 10] {
            let path = write(name, &whole[..keep]);
            let text = load(&path);
            assert!(
                text.contains(name),
                "{keep} of {} bytes: {text}",
                whole.len()
            );
        }
    }
    assert!(load(&write("text.png", b"not an image at all")).contains("text.png"));
    assert!(load(&directory.path().join("absent.jpg")).contains("scripts/fetch-assets"));
}

/// A JPEG whose header speaks of other sides.
fn forged(bytes: &[u8], height: u16, width: u16) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let frame = |w: &[u8]| w[0] == 0xff && matches!(w[1], 0xc0 | 0xc2);
    let at = bytes.windows(2).position(frame).unwrap();
    bytes[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    bytes[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// Decoding would take gigabytes: refused by the header, before anything is allocated.
#[test]
fn dimensions_that_a_file_cannot_hold_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["yuv420.jpg", "yuv444_progressive.jpg"] {
        let whole = crate::common::goldens::read(&format!("images/{name}"));
        let path = directory.path().join(name);
        for side in [60_000, 20_000] {
            std::fs::write(&path, forged(&whole, side, side)).unwrap();
            let text = message(IMAGENET.load(&path));
            let said = format!(
                "{name}: expected a JPEG or PNG image, but its header speaks of {side} x {side}"
            );
            assert!(text.contains(&said), "{text}");
        }
    }
}

/// libjpeg would fill in grey: also where the end marker is there and only the data are short.
#[test]
fn a_jpeg_whose_data_end_early_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["yuv420.jpg", "yuv444_progressive.jpg", "cmyk.jpg"] {
        let whole = crate::common::goldens::read(&format!("images/{name}"));
        let path = directory.path().join(name);
        let mut short = whole[..whole.len() * 3 / 4].to_vec();
        short.extend([0xff, 0xd9]);
        std::fs::write(&path, short).unwrap();
        let text = message(IMAGENET.load(&path));
        assert!(text.contains(name) && text.contains("end early"), "{text}");
    }
}

#[test]
fn a_batch_keeps_its_order_and_names_the_first_bad_file() {
    let images = crate::common::goldens::repository("tests/goldens/images");
    let preprocessing = Preprocessing {
        resize: Size::Side(23),
        crop: Size::Side(20),
        ..IMAGENET
    };
    let paths = ["rgb.png", "grey.png", "rgb.png"].map(|name| images.join(name));
    let batch = preprocessing.load_batch(&paths).unwrap();
    assert_eq!((batch.images(), batch.shape), (3, preprocessing.shape()));
    assert_eq!(batch.image(0), batch.image(2));
    assert_eq!(batch.image(1), preprocessing.load(&paths[1]).unwrap());
    let bad = ["rgb.png", "a.png", "b.png"].map(|name| images.join(name));
    assert!(message(preprocessing.load_batch(&bad)).contains("a.png"));
}

#[test]
fn image_sets_are_sorted_labelled_and_hashed() {
    let directory = tempfile::tempdir().unwrap();
    assert!(message(ImageSet::open(directory.path(), None)).contains("found none"));
    assert!(message(ImageSet::open(&directory.path().join("absent"), None)).contains("absent"));
    let png = crate::common::goldens::read("images/rgb.png");
    for name in ["b_7.PNG", "a_12.png", "c.jpeg", ".hidden.png", "notes.txt"] {
        std::fs::write(directory.path().join(name), &png).unwrap();
    }
    let set = ImageSet::open(directory.path(), None).unwrap();
    let seen: Vec<_> = set
        .images
        .iter()
        .map(|i| (i.name.as_str(), i.label))
        .collect();
    assert_eq!(
        seen,
        [
            ("a_12.png", Some(12)),
            ("b_7.PNG", Some(7)),
            ("c.jpeg", None)
        ]
    );
    assert!(set.images.iter().all(|i| i.hash == set.images[0].hash));
    assert_eq!(ImageSet::open(directory.path(), Some(2)).unwrap().len(), 2);
    let small = Preprocessing {
        resize: Size::Side(23),
        crop: Size::Side(23),
        ..IMAGENET
    };
    assert_eq!(set.load(0..2, &small).unwrap().images(), 2);
    assert_eq!(set.load(2..3, &small).unwrap().images(), 1);
    assert_eq!(
        set.hash(),
        ImageSet::open(directory.path(), None).unwrap().hash()
    );
    assert_ne!(
        set.hash(),
        ImageSet::open(directory.path(), Some(2)).unwrap().hash()
    );
}

/// A blank picture takes a thousandth of its pixels in a file, and all of them in memory.
#[test]
fn a_large_blank_picture_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blank.png");
    image::GrayImage::new(6000, 6000).save(&path).unwrap();
    let text = message(IMAGENET.load(&path));
    assert!(
        text.contains("blank.png") && text.contains("6000 x 6000"),
        "{text}"
    );
}
