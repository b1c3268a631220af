//! Statements for most images, from the numbers of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use quantbound::bounds::probabilistic::{together, tolerance};
use quantbound::data::ImageSet;
use quantbound::experiment::derive::tails::{FLIP, MAX, Observations, Samples, statements};
use quantbound::experiment::plan::{CalibrationSpec, Images, Tails};
use quantbound::network::{Activation, INPUT, Linear, Network, Op};
use quantbound::quant::Granularity;
use quantbound::results::schema::{CellKey, TailRow};
use quantbound::tensor::{Shape, Tensor};

use crate::common::random_network::Random;

fn key() -> CellKey {
    CellKey {
        cell_id: "c".into(),
        model: "m".into(),
        quantizer: "q".into(),
        bits: 8,
        granularity: Granularity::PerTensor,
    }
}

/// Two dense layers, a ReLU6 behind the first.
fn network() -> Network {
    let dense = |inputs: usize| {
        Op::Linear(Linear {
            weight: Tensor::new([2, inputs], vec![0.5; 2 * inputs]).unwrap(),
            bias: vec![0.0; 2],
        })
    };
    let mut network = Network::new("m", Shape { c: 2, h: 1, w: 1 });
    let first = network.push("first", dense(2), &[INPUT], Activation::Relu6);
    network
        .push("second", dense(2), &[first.unwrap()], Activation::Identity)
        .unwrap();
    network
}

fn samples(n: usize) -> Samples {
    let mut random = Random(3);
    let mut draw = |scale: f64| -> Vec<f64> {
        (0..n)
            .map(|_| scale * (1.0 + random.below(1000) as f64))
            .collect()
    };
    let flips = (0..n).map(|i| f64::from(u8::from(i % 20 == 0))).collect();
    Samples {
        numbers: BTreeMap::from([
            ((MAX.to_string(), 1), draw(1e-3)),
            ((MAX.to_string(), 2), draw(1e-2)),
            ((FLIP.to_string(), 2), flips),
        ]),
    }
}

fn of<'r>(rows: &'r [TailRow], theorem: &str, depth: u32) -> &'r TailRow {
    let mut found = rows.iter().filter(|r| {
        r.theorem == theorem && r.depth == depth && (r.statistic == MAX || theorem == "rate")
    });
    found
        .next()
        .unwrap_or_else(|| panic!("{theorem} at {depth}"))
}

#[test]
fn each_statement_is_its_theorem_on_the_stored_numbers() {
    let (n, settings) = (300, Tails::default());
    let given = samples(n);
    let rows = statements(&settings, &key(), &network(), &given).unwrap();
    let z = |depth| &given.numbers[&(MAX.to_string(), depth)];

    let row = of(&rows, "tolerance", 2);
    let tail = tolerance::tail(z(2), 0.95, 0.95).unwrap();
    assert_eq!(
        (row.value, row.coverage, row.k as usize),
        (tail.value, Some(0.95), tail.k)
    );
    assert_eq!(
        (row.n, row.needed, row.layer.as_str()),
        (300, None, "second")
    );

    // A fifth of the images fixes the scales and is judged by nothing.
    let scales: Vec<f64> = [1, 2]
        .map(|d| z(d)[..60].iter().copied().fold(0.0, f64::max))
        .into();
    let images: Vec<Vec<f64>> = (60..n).map(|i| vec![z(1)[i], z(2)[i]]).collect();
    let all = together::tails(&images, &scales, 0.95, 0.95).unwrap();
    for depth in [1, 2] {
        let row = of(&rows, "together", depth);
        assert_eq!(Some(row.value), all.values[depth as usize - 1]);
        assert_eq!((row.n, row.k as usize), (240, all.k));
    }

    // 15 of 300 flip: where the exact sum of P(Bin(300, p) = i), i = 0..15, is 0.05.
    let rate = of(&rows, "rate", 2);
    assert_eq!(rate.k, 15);
    assert!(
        (rate.value - 0.075_948_698_3).abs() < 1e-9,
        "{}",
        rate.value
    );
    assert_eq!(rate.coverage, None);

    // A proven range stands behind a ReLU6 alone.
    let means = |depth| {
        rows.iter()
            .filter(|r| r.theorem == "mean-bernstein" && r.statistic == MAX && r.depth == depth)
            .count()
    };
    assert_eq!((means(1), means(2)), (1, 0));
}

#[test]
fn too_few_images_state_what_they_support_and_what_is_missing() {
    let rows = statements(&Tails::default(), &key(), &network(), &samples(20)).unwrap();
    let row = of(&rows, "tolerance", 1);
    assert_eq!((row.needed, row.k), (Some(59), 1));
    assert!((row.coverage.unwrap() - 0.861).abs() < 1e-3, "{row:?}");
    let whole = of(&rows, "together", 1);
    assert_eq!((whole.n, whole.k, whole.needed), (16, 1, Some(59)));
    assert!((whole.coverage.unwrap() - 0.829).abs() < 1e-3, "{whole:?}");
}

#[test]
fn an_image_without_a_number_lies_above_everything() {
    let mut given = samples(100);
    given.numbers.get_mut(&(MAX.to_string(), 2)).unwrap()[50] = f64::NAN;
    let rows = statements(&Tails::default(), &key(), &network(), &given).unwrap();
    let mut finite = samples(100);
    finite.numbers.get_mut(&(MAX.to_string(), 2)).unwrap()[50] = 1e300;
    let above = statements(&Tails::default(), &key(), &network(), &finite).unwrap();
    // The worst of 80 images decides about all depths at once: nothing finite is known there.
    assert_eq!(
        (of(&rows, "together", 2).k, of(&rows, "together", 2).value),
        (1, f64::INFINITY)
    );
    for theorem in ["tolerance", "next-image"] {
        assert_eq!(
            of(&rows, theorem, 2).value,
            of(&above, theorem, 2).value,
            "{theorem}"
        );
    }
    assert!(
        rows.iter()
            .all(|r| r.theorem != "moments" || r.depth != 2 || r.statistic != MAX)
    );
}

fn picture(path: &Path, seed: u64) {
    let mut random = Random(seed);
    let pixels = (0..48).map(|_| random.below(256) as u8).collect();
    image::RgbImage::from_raw(4, 4, pixels)
        .unwrap()
        .save(path)
        .unwrap();
}

#[test]
fn one_picture_under_two_names_is_one_observation() {
    let dir = tempfile::tempdir().unwrap();
    for (name, seed) in [("a.png", 1), ("b.png", 2), ("c.png", 1)] {
        picture(&dir.path().join(name), seed);
    }
    let images = ImageSet::open(dir.path(), None).unwrap();
    assert_eq!(Observations::of(&images).count(), 2);
}

#[test]
fn images_that_a_quantizer_has_seen_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (judged, seen) = (dir.path().join("judged"), dir.path().join("seen"));
    fs::create_dir_all(&judged).unwrap();
    fs::create_dir_all(&seen).unwrap();
    picture(&judged.join("a.png"), 1);
    picture(&judged.join("b.png"), 2);
    picture(&seen.join("x.png"), 3);
    let open = || {
        let spec = CalibrationSpec {
            images: Images {
                dir: seen.clone(),
                labels: None,
                skip: 0,
                limit: None,
                shuffle: None,
            },
            augment: None,
            seed: 0,
        };
        spec.open().unwrap()
    };
    let images = ImageSet::open(&judged, None).unwrap();
    Tails::check_apart(&images, &open()).unwrap();
    // The same picture under another name.
    picture(&seen.join("y.png"), 2);
    let refused = Tails::check_apart(&images, &open())
        .unwrap_err()
        .to_string();
    for part in ["1 of the images", "b.png", "y.png"] {
        assert!(refused.contains(part), "{refused}");
    }
}
