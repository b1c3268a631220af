//! Nights: each runs into its date, is compared with the last complete one, and is green only when all is well.

use std::fs;
use std::path::Path;

use quantbound::data::Choice;
use quantbound::results::history::{Date, RECORD, Record, Worth};
use quantbound::results::provenance::Provenance;
use quantbound::results::schema::file;
use quantbound::results::store::read_json;

use crate::common::tiny::{Tiny, program, said, source};

struct Root {
    tiny: Tiny,
}

impl Root {
    fn night(&self, plan: &Path, date: &str, flags: &[&str]) -> (String, Option<i32>) {
        let root = self.tiny.path("nights");
        let mut command = program(&[&"nightly", &plan, &"--root", &root, &"--date", &date]);
        said(
            &command
                .args(flags)
                .args(["--backend", "cpu"])
                .output()
                .unwrap(),
        )
    }

    fn record(&self, date: &str) -> Record {
        read_json(&self.tiny.path("nights").join(date).join(RECORD)).unwrap()
    }

    fn history(&self, until: &str) -> (String, Option<i32>) {
        let root = self.tiny.path("nights");
        said(
            &program(&[&"history", &root, &"--until", &until])
                .output()
                .unwrap(),
        )
    }

    fn beat(&self) -> String {
        let text = fs::read_to_string(self.tiny.path("nights/heartbeat.json")).unwrap();
        let beat: serde_json::Value = serde_json::from_str(&text).unwrap();
        beat["state"].as_str().unwrap().to_string()
    }
}

#[test]
fn nights_are_compared_and_only_good_ones_are_green() {
    let root = Root { tiny: Tiny::new() };
    let plan = root.tiny.usual();
    let (text, code) = root.night(&plan, "2026-11-20", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("night 2026-11-20: good"), "{text}");
    assert!(text.contains("no complete night before it"), "{text}");
    assert_eq!(root.beat(), "good");

    let (text, code) = root.night(&plan, "2026-11-21", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("compared with 2026-11-20: 0 failures"),
        "{text}"
    );
    let night = root.tiny.path("nights/2026-11-21");
    for name in ["night.txt", "night.html", "compare.html", "report.html"] {
        assert!(night.join(name).is_file(), "{name}");
    }
    assert!(root.tiny.path("nights/history.html").is_file());

    // A night left out is missing, and the next one is not green for it.
    let (text, code) = root.night(&plan, "2026-11-23", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("missing between the two: 2026-11-22"),
        "{text}"
    );
    assert_eq!(root.record("2026-11-23").missing, ["2026-11-22"]);

    // A cell fewer.
    let fewer = root.tiny.plan_at(&[("good", source(Tiny::NETWORK))], "[8]");
    let (text, code) = root.night(&fewer, "2026-11-24", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("FAIL missing cell: good uniform-asymmetric 4 bit"),
        "{text}"
    );
    assert_eq!(root.record("2026-11-24").failures, 1);

    // A night that cannot run to its end.
    let images = root.tiny.path("images");
    fs::rename(&images, root.tiny.path("elsewhere")).unwrap();
    let (text, code) = root.night(&fewer, "2026-11-25", &[]);
    assert_eq!(code, Some(2), "{text}");
    assert_eq!(root.record("2026-11-25").worth, Worth::Unfinished);
    assert_eq!(root.beat(), "unfinished");
    let (text, code) = root.history("2026-11-25");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("++.XX?") || text.contains("++.X X?"),
        "{text}"
    );
    assert!(text.contains("2026-11-25  unfinished: "), "{text}");

    // The same night again, when it can.
    fs::rename(root.tiny.path("elsewhere"), &images).unwrap();
    let (text, code) = root.night(&fewer, "2026-11-25", &["--keep", "2"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("compared with 2026-11-24: 0 failures"),
        "{text}"
    );
    let (text, code) = root.history("2026-11-25");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("++.XX+"), "{text}");
    assert!(!root.tiny.path("nights/2026-11-23/bounds.parquet").exists());
    assert!(root.tiny.path("nights/2026-11-24/bounds.parquet").exists());
    assert_eq!(root.history("2026-11-26").1, Some(1), "no run of that date");
}

/// The three images of four that a date draws.
fn drawn(date: Date) -> Vec<String> {
    let choice = Choice {
        seed: Some(date.digits()),
        ..Choice::first(Some(3))
    };
    let folder = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"].map(|name| (name.to_string(), None));
    let (taken, _) = choice.of(folder.to_vec());
    taken.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn images_drawn_by_date_are_others_and_the_night_is_compared_all_the_same() {
    let root = Root { tiny: Tiny::new() };
    let samples = fs::read_dir(source("datasets/imagenet-samples")).unwrap();
    let mut samples: Vec<_> = samples.map(|f| f.unwrap().path()).collect();
    samples.sort();
    for (file, name) in samples[2..].iter().zip(["c.jpg", "d.jpg"]) {
        fs::copy(file, root.tiny.path("images").join(name)).unwrap();
    }
    let plan = root.tiny.usual();
    let text = fs::read_to_string(&plan).unwrap();
    let text = text.replace("[[model]]", "limit = 3\nshuffle = \"date\"\n[[model]]");
    fs::write(&plan, text + "[studies]\ntails = {}\n").unwrap();
    let mut first: Date = "2026-11-01".parse().unwrap();
    while drawn(first) == drawn(first.later(1)) {
        first = first.later(1);
    }
    let dates = [first, first.later(1)].map(|d| d.to_string());

    let out = root.tiny.path("out");
    let swept = program(&[&"sweep", &plan, &"--out", &out, &"--backend", &"cpu"]).output();
    let (text, code) = said(&swept.unwrap());
    assert!(text.contains("shuffle = \"date\": only"), "{text}");
    assert_eq!(code, Some(2));

    let mut hashes = Vec::new();
    for date in &dates {
        let (text, code) = root.night(&plan, date, &[]);
        assert_eq!(code, Some(0), "{text}");
        let dir = root.tiny.path("nights").join(date);
        let provenance: Provenance = read_json(&dir.join(file::PROVENANCE)).unwrap();
        let by = provenance.drawn.unwrap();
        assert_eq!((by.seed.to_string(), by.from), (date.replace('-', ""), 4));
        hashes.push(provenance.images_hash);
        let said = format!("3 of 4 images drawn by seed {}", by.seed);
        let record = root.record(date);
        assert_eq!(record.drawn.as_deref(), Some(said.as_str()));
        assert!(record.tails.unwrap().contains("of images drawn like these"));
        assert!(text.contains(&said), "{text}");
        let page = fs::read_to_string(dir.join("night.html")).unwrap();
        assert!(page.contains(&said), "{page}");
    }
    assert_ne!(hashes[0], hashes[1]);
    let record = root.record(&dates[1]);
    assert_eq!(
        (record.failures, record.base.as_ref()),
        (0, Some(&dates[0]))
    );
    let (text, code) = root.history(&dates[1]);
    assert_eq!(code, Some(0), "{text}");
    // The same night again has the same images.
    let (text, code) = root.night(&plan, &dates[1], &[]);
    assert!(text.contains("nothing to compute"), "{text}");
    assert_eq!(code, Some(0), "{text}");
    // So has its repetition, from what it stored.
    let night = root.tiny.path("nights").join(&dates[1]);
    let (text, code) = said(&program(&[&"rerun", &night]).output().unwrap());
    // A busy machine is slower, which is a warning.
    assert!(text.contains("2 cells in both"), "{text}");
    assert!(!text.contains("FAIL"), "{text}");
    assert_eq!(code, Some(0), "{text}");
}
