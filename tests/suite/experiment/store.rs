//! The run directory: round trips, resumes, damage, leftovers of a kill, the lock, a full disk.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use quantbound::engine::{DeviceInfo, TapStats};
use quantbound::quant::Granularity;
use quantbound::results::schema::{
    BoundAt, BoundRow, CellKey, Finding, MeasurementRow, OutputRow, Row, SCHEMA_VERSION, Summary,
    VerdictCounts, file,
};
use quantbound::results::store::{
    Part, PartMeta, RunStore, StoreError, encode, for_each_row, read_json, read_summary,
};

use crate::common::parts::{bounds, finish, measured, write_bounds, write_measured};

fn key(cell_id: &str) -> CellKey {
    CellKey {
        cell_id: cell_id.to_string(),
        model: "net".to_string(),
        quantizer: "uniform-symmetric".to_string(),
        bits: 8,
        granularity: Granularity::PerChannel,
    }
}

fn meta(images: u32) -> PartMeta {
    PartMeta {
        machine: "a machine".to_string(),
        device: DeviceInfo {
            engine: "cpu-f64".to_string(),
            device: "a processor".to_string(),
            kind: "cpu".to_string(),
            driver: String::new(),
            backend: String::new(),
            pci: String::new(),
            threads: 2,
        },
        images,
        seconds: 0.25,
    }
}

fn measurement(cell: &str, image: &str, depth: u32, diff: f64) -> MeasurementRow {
    let stats = TapStats {
        max_abs_diff: diff,
        sum_sq_diff: diff * diff,
        sum_abs_diff: diff,
        ref_max_abs: 2.0,
        ref_sum_sq: 4.0,
        argmax: 3,
        non_finite: 0,
        count: 5,
    };
    key(cell).measurement(image, Some(7), depth, &format!("layer{depth}"), &stats)
}

fn batch_rows(cell: &str, batch: u32) -> (Vec<MeasurementRow>, Vec<OutputRow>) {
    let image = format!("image{batch}");
    let depths = 1..=3;
    (
        depths
            .map(|d| measurement(cell, &image, d, f64::from(d * (batch + 1)) / 8.0))
            .collect(),
        vec![key(cell).output(&image, None, 0.5)],
    )
}

fn store_batch(store: &RunStore, cell: &str, batch: u32) {
    let (measurements, outputs) = batch_rows(cell, batch);
    write_measured(
        store,
        &measured(cell, batch),
        &measurements,
        &outputs,
        &meta(1),
    )
    .unwrap();
}

fn store_bounds(store: &RunStore, cell: &str) {
    let rows: Vec<BoundRow> = (1..=3)
        .map(|d| key(cell).bound("layerwise", d, &format!("layer{d}"), f64::from(d)))
        .collect();
    write_bounds(store, &bounds(cell), &rows).unwrap();
}

fn read<R: Row>(path: &Path) -> Vec<R> {
    let mut rows = Vec::new();
    for_each_row(path, |row| rows.push(row)).unwrap();
    rows
}

/// Equality that takes a NaN for equal to a NaN.
fn same(a: &MeasurementRow, b: &MeasurementRow) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(0.0)
    ]
}

prop_compose! {
    fn any_measurement()(
        text in prop::collection::vec("[a-z/.é ]{0,12}", 4),
        counts in prop::collection::vec(0..=i32::MAX as u32, 3),
        label in prop::option::of(0..=i32::MAX as u32),
        floats in prop::collection::vec(any_float(), 5),
        optional in prop::collection::vec(prop::option::of(any_float()), 2),
    ) -> MeasurementRow {
        MeasurementRow {
            model: text[0].clone(),
            quantizer: text[1].clone(),
            image: text[2].clone(),
            layer: text[3].clone(),
            bits: counts[0],
            depth: counts[1],
            argmax: counts[2],
            label,
            max_abs_diff: floats[0],
            l2_diff: floats[1],
            mean_abs_diff: floats[2],
            ref_max_abs: floats[3],
            ref_l2: floats[4],
            sqnr_db: optional[0],
            fp_allowance: optional[1],
            ..measurement("cell", "i", 1, 1.0)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn rows_come_back_as_they_went(rows in prop::collection::vec(any_measurement(), 0..40)) {
        let dir = tempfile::tempdir().unwrap();
        let store = RunStore::create_or_open(dir.path()).unwrap();
        let part = measured("cell", 0);
        write_measured(&store, &part, &rows, &[], &meta(1)).unwrap();
        let back: Vec<MeasurementRow> = store.read(&part).unwrap();
        let outputs: Vec<OutputRow> = store.read(&part).unwrap();
        prop_assert!(outputs.is_empty());
        prop_assert_eq!(back.len(), rows.len());
        for (i, (got, want)) in back.iter().zip(&rows).enumerate() {
            prop_assert!(same(got, want), "row {}: {:?} became {:?}", i, want, got);
        }
    }
}

#[test]
fn a_count_that_does_not_fit_is_refused_by_column() {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::create_or_open(dir.path()).unwrap();
    let row = MeasurementRow {
        argmax: u32::MAX,
        ..measurement("a", "i", 1, 1.0)
    };
    let error = write_measured(&store, &measured("a", 0), &[row], &[], &meta(1))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("argmax") && error.contains("4294967295"),
        "{error}"
    );
    assert!(!store.has(&measured("a", 0)));
}

#[test]
fn non_finite_statistics_become_nan() {
    let stats = TapStats {
        non_finite: 1,
        count: 4,
        ..TapStats::default()
    };
    let row = key("a").measurement("i", None, 1, "l", &stats);
    assert!(row.max_abs_diff.is_nan() && row.sqnr_db.is_none());
    let silent = key("a").measurement("i", None, 1, "l", &TapStats::default());
    assert_eq!((silent.max_abs_diff, silent.sqnr_db), (0.0, None));
}

#[test]
fn parts_are_resumed_and_merged_in_plan_order() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = RunStore::create_or_open(dir.path()).unwrap();
        store_batch(&store, "b", 1);
        store_batch(&store, "a", 0);
        store_bounds(&store, "a");
    }
    let store = RunStore::create_or_open(dir.path()).unwrap();
    assert!(
        store.has(&measured("b", 1)) && store.has(&measured("a", 0)) && store.has(&bounds("a"))
    );
    assert!(
        !store.has(&measured("b", 0)) && !store.has(&measured("c", 0)) && !store.has(&bounds("b"))
    );
    assert_eq!(store.meta(&measured("b", 1)), Some(meta(1)));

    let all = [("b", 2), ("a", 1)];
    let error = finish(&store, &all).unwrap_err().to_string();
    assert!(
        error.contains("cell b") && error.contains(measured("b", 0).stem()),
        "{error}"
    );
    assert!(!dir.path().join(file::MEASUREMENTS).exists());
    store_batch(&store, "b", 0);
    let error = finish(&store, &all).unwrap_err().to_string();
    assert!(
        error.contains("cell b") && error.contains("bounds"),
        "{error}"
    );
    store_bounds(&store, "b");
    finish(&store, &all).unwrap();

    let expected: Vec<MeasurementRow> = [("b", 0), ("b", 1), ("a", 0)]
        .iter()
        .flat_map(|&(cell, batch)| batch_rows(cell, batch).0)
        .collect();
    let path = dir.path().join(file::MEASUREMENTS);
    assert_eq!(read::<MeasurementRow>(&path), expected);
    let outputs = read::<OutputRow>(&dir.path().join(file::OUTPUTS));
    let images: Vec<&str> = outputs.iter().map(|r| r.image.as_str()).collect();
    assert_eq!(images, ["image0", "image1", "image0"]);
    assert_eq!(read::<BoundRow>(&dir.path().join(file::BOUNDS)).len(), 6);

    // Another run of the same cells, batches the other way round, another machine: the same bytes.
    let other = tempfile::tempdir().unwrap();
    let again = RunStore::create_or_open(other.path()).unwrap();
    for (cell, batch) in [("a", 0), ("b", 0), ("b", 1)] {
        let (measurements, outputs) = batch_rows(cell, batch);
        let meta = PartMeta {
            seconds: 9.0,
            ..meta(1)
        };
        write_measured(
            &again,
            &measured(cell, batch),
            &measurements,
            &outputs,
            &meta,
        )
        .unwrap();
        store_bounds(&again, cell);
    }
    finish(&again, &all).unwrap();
    for name in [file::MEASUREMENTS, file::OUTPUTS, file::BOUNDS] {
        let bytes = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(bytes(dir.path()) == bytes(other.path()), "{name} differs");
    }
}

type Damage = fn(&Path);

#[test]
fn a_damaged_part_is_not_there() {
    let damages: [(&str, Damage); 7] = [
        ("cut in the middle", |p| cut(p, |bytes| bytes / 2)),
        ("cut in its header", |p| cut(p, |_| 80)),
        ("a byte short", |p| cut(p, |bytes| bytes - 1)),
        ("empty", |p| cut(p, |_| 0)),
        ("a bit in its header", |p| flip_a_bit(p, |_| 100)),
        ("a bit in its tables", |p| {
            flip_a_bit(p, |bytes| bytes - 100)
        }),
        ("gone", |p| std::fs::remove_file(p).unwrap()),
    ];
    for (name, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let store = RunStore::create_or_open(dir.path()).unwrap();
        store_batch(&store, "a", 0);
        store_bounds(&store, "a");
        let part = measured("a", 0);
        assert!(store.has(&part));
        drop(store);
        damage(&file_of(dir.path(), &part));
        let store = RunStore::create_or_open(dir.path()).unwrap();
        assert!(!store.has(&part), "{name}: was trusted");
        assert!(store.meta(&part).is_none(), "{name}");
        let error = finish(&store, &[("a", 1)]).unwrap_err().to_string();
        let said = format!("cell a: its measurements ({})", part.stem());
        assert!(error.contains(&said), "{name}: {error}");
        store_batch(&store, "a", 0);
        finish(&store, &[("a", 1)]).unwrap();
    }
}

fn file_of(dir: &Path, part: &Part) -> PathBuf {
    let name = format!("{}.part", part.stem());
    dir.join(file::PARTS).join(part.cell_id()).join(name)
}

fn cut(path: &Path, to: fn(usize) -> usize) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..to(bytes.len())]).unwrap();
}

fn flip_a_bit(path: &Path, at: fn(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn tables_of_parts_come_back_in_either_encoding() {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::create_or_open(dir.path()).unwrap();
    // Of 128 rows or fewer, and of more; both in one file.
    for (batch, n) in [(0, 0), (1, 1), (2, 128), (3, 129), (4, 9000)] {
        let value = |d: u32| [f64::NAN, 0.0, f64::INFINITY, 1.5][d as usize % 4];
        let rows: Vec<MeasurementRow> = (1..=n)
            .map(|d| MeasurementRow {
                label: (d % 3 != 0).then_some(d),
                max_abs_diff: value(d),
                fp_allowance: (d % 2 == 0).then(|| value(d)),
                ..measurement("a", "é", d, 1.0)
            })
            .collect();
        let outputs = [key("a").output("é", None, 0.5)];
        let part = measured("a", batch);
        write_measured(&store, &part, &rows, &outputs, &meta(1)).unwrap();
        let back: Vec<MeasurementRow> = store.read(&part).unwrap();
        assert_eq!(back.len(), rows.len());
        assert!(back.iter().zip(&rows).all(|(a, b)| same(a, b)), "{n} rows");
        assert_eq!(store.read::<OutputRow>(&part).unwrap(), outputs);
        let files = std::fs::read_dir(dir.path().join("parts/a")).unwrap();
        assert_eq!(files.count(), batch as usize + 1, "one file for each part");
    }
    let error = store.read::<BoundRow>(&measured("a", 0)).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("it has no bounds"), "{error}");
}

#[test]
fn leftovers_of_a_kill_are_removed_and_not_taken_for_work() {
    let dir = tempfile::tempdir().unwrap();
    let cell = dir.path().join(file::PARTS).join("a");
    {
        let store = RunStore::create_or_open(dir.path()).unwrap();
        store_batch(&store, "a", 0);
        store_batch(&store, "a", 1);
    }
    // Killed in the middle of two writes.
    std::fs::remove_file(file_of(dir.path(), &measured("a", 1))).unwrap();
    let leftovers = [
        cell.join(format!("{}.part.tmp-4194305", measured("a", 1).stem())),
        dir.path().join("measurements.parquet.tmp-4194305"),
    ];
    for path in &leftovers {
        std::fs::write(path, b"PAR1half").unwrap();
    }
    let kept = dir.path().join("notes.tmp-of-mine");
    std::fs::write(&kept, b"").unwrap();

    let store = RunStore::create_or_open(dir.path()).unwrap();
    for path in &leftovers {
        assert!(!path.exists(), "{} is still there", path.display());
    }
    assert!(kept.exists());
    let has = |batch| store.has(&measured("a", batch));
    assert!(has(0) && !has(1) && !has(2));
}

#[test]
fn one_process_at_a_time_and_a_dead_owner_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::create_or_open(dir.path()).unwrap();
    let error = RunStore::create_or_open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    let owner = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&owner), "{error}");
    drop(store);
    std::fs::write(dir.path().join(".lock"), "4194305").unwrap();
    RunStore::create_or_open(dir.path()).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::create_or_open(dir.path()).unwrap();
    store_batch(&store, "a", 0);
    let cell = dir.path().join(file::PARTS).join("a");
    let name = &format!("{}.part", measured("a", 1).stem());
    let temporary = cell.join(format!("{name}.tmp-{}", std::process::id()));
    std::os::unix::fs::symlink("/dev/full", &temporary).unwrap();

    let (measurements, outputs) = batch_rows("a", 1);
    let error = write_measured(&store, &measured("a", 1), &measurements, &outputs, &meta(1))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(name) && error.contains("No space left") && error.contains("is kept"),
        "{error}"
    );
    assert!(!temporary.exists() && !cell.join(name).exists());
    assert!(store.has(&measured("a", 0)) && !store.has(&measured("a", 1)));
    store_batch(&store, "a", 1);
    assert!(store.has(&measured("a", 1)));

    store_bounds(&store, "a");
    let merged = dir
        .path()
        .join(format!("{}.tmp-{}", file::BOUNDS, std::process::id()));
    std::os::unix::fs::symlink("/dev/full", &merged).unwrap();
    let error = finish(&store, &[("a", 2)]).unwrap_err().to_string();
    assert!(
        error.contains(file::BOUNDS) && error.contains("No space left"),
        "{error}"
    );
}

#[test]
fn a_part_under_other_settings_is_another_part() {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::create_or_open(dir.path()).unwrap();
    let [all, some] = ["all", "only fused"].map(|asked| Part::new("a", "bounds", asked, None));
    let row = key("a").bound("fused", 1, "l", 0.5);
    write_bounds(&store, &all, &[row.clone(), row.clone()]).unwrap();
    assert!(store.has(&all) && !store.has(&some));
    write_bounds(&store, &some, &[row]).unwrap();
    assert_eq!(store.read::<BoundRow>(&all).unwrap().len(), 2);
    assert_eq!(store.read::<BoundRow>(&some).unwrap().len(), 1);
}

#[test]
fn a_part_of_another_schema_is_refused_by_column() {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::create_or_open(dir.path()).unwrap();
    let outputs = encode(&batch_rows("a", 0).1).unwrap();
    let part = bounds("a");
    store
        .write(&part, &[(BoundRow::TABLE, outputs)], None)
        .unwrap();
    let merged = store.merge(BoundRow::TABLE, BoundRow::schema(), &[part]);
    let error = merged.unwrap_err().to_string();
    assert!(error.contains("column bound is missing"), "{error}");
}

#[test]
fn cell_ids_stay_inside_the_run_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::create_or_open(dir.path()).unwrap();
    for id in ["", "..", "a/b", ".hidden", "a\\b", "/etc"] {
        let error = write_bounds(&store, &bounds(id), &[]).unwrap_err();
        assert!(matches!(error, StoreError::CellId(_)), "{id:?}: {error}");
        assert!(!store.has(&measured(id, 0)));
    }
}

#[test]
fn a_missing_or_foreign_table_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(file::BOUNDS);
    let error = for_each_row(&path, |_: BoundRow| ()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Missing { path: p } if *p == path),
        "{error}"
    );
    std::fs::write(&path, b"not a table at all").unwrap();
    let error = for_each_row(&path, |_: BoundRow| ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(file::BOUNDS) && error.contains("Parquet"),
        "{error}"
    );

    let store = RunStore::create_or_open(dir.path()).unwrap();
    store_bounds(&store, "a");
    store
        .merge(BoundRow::TABLE, BoundRow::schema(), &[bounds("a")])
        .unwrap();
    let error = for_each_row(&path, |_: OutputRow| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("column image is missing"), "{error}");
}

#[test]
fn the_summary_comes_back_with_its_infinities() {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::create_or_open(dir.path()).unwrap();
    let finding = Finding {
        cell_id: "a".to_string(),
        bound: "layerwise".to_string(),
        depth: 3,
        layer: "fc".to_string(),
        image: "x.jpg".to_string(),
        measured: f64::INFINITY,
        f64_measured: None,
        f64_at_least: Some(f64::NEG_INFINITY),
        images_in_f64: 2,
        log10_bound: f64::NEG_INFINITY,
    };
    let summary = Summary {
        schema_version: SCHEMA_VERSION,
        counts: VerdictCounts {
            holds: 1,
            invalid: 1,
            smallest_slack: Some(-0.25),
            ..VerdictCounts::default()
        },
        cells: vec![],
        violations: vec![],
        undecided: vec![],
        invalid: vec![finding],
    };
    store.write_summary(&summary).unwrap();
    assert_eq!(read_summary(dir.path()).unwrap(), summary);
    let json: serde_json::Value = read_json(&dir.path().join(file::SUMMARY)).unwrap();
    assert_eq!(json["invalid"][0]["measured"], "inf");

    let newer = Summary {
        schema_version: SCHEMA_VERSION + 1,
        ..summary
    };
    store.write_summary(&newer).unwrap();
    let error = read_summary(dir.path()).unwrap_err().to_string();
    assert!(error.contains("schema version 2"), "{error}");
    let at = BoundAt::new("layerwise", 3.0, 0.01);
    assert_eq!(at.looseness, 5.0);
    assert!(BoundAt::new("x", f64::NEG_INFINITY, 0.0).looseness.is_nan());
}
