//! Tiles chosen by timing them: kept, and never missed. Needs a GPU adapter, a software one included, and fails without.

use std::path::Path;
use std::sync::Mutex;

use crate::common::gpu_checks::*;
use crate::common::gpu_problems::*;
use quantbound::engine::gpu::{Blocking, GpuEngine, GpuOptions};
use quantbound::engine::{Engine, Reduced, Reductions};
use quantbound::network::Network;
use quantbound::quant::{QuantizedNetwork, Quantizer};
use quantbound::tensor::Batch;

static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Full-precision outputs and two variants' reductions, and what was said meanwhile.
fn ask(
    kept: &Path,
    timed: bool,
    (network, variants, input): (&Network, &[QuantizedNetwork], &Batch),
) -> (Vec<Vec<f32>>, Vec<Reduced>, Vec<String>) {
    let options = GpuOptions {
        blocking: Some(Blocking::Tiled),
        timed: Some(timed),
        kept: Some(kept.to_path_buf()),
        tell: Some(|what| SAID.lock().unwrap().push(what.to_string())),
        ..GpuOptions::default()
    };
    SAID.lock().unwrap().clear();
    let engine = GpuEngine::with_options(None, options).expect(INSTALL);
    let mut runner = engine.prepare(network).unwrap();
    let loaded: Vec<_> = variants.iter().map(|v| runner.load(v).unwrap()).collect();
    let outputs = runner.reference(input).unwrap();
    let all: Vec<_> = loaded.iter().collect();
    let reduced = runner.run(&all, &Reductions::DISCREPANCY).unwrap();
    // Nothing is chosen twice.
    runner.reference(input).unwrap();
    let said = SAID.lock().unwrap().clone();
    (outputs, reduced, said)
}

/// The number before a word in what was said of choices, one for each size of a pass.
fn counted(said: &[String], word: &str) -> Vec<usize> {
    let lines = said.iter().filter(|line| line.contains("by timing"));
    let before = lines.map(|line| line[..line.find(word).unwrap()].trim_end());
    let numbers = before.map(|text| text.rsplit(' ').next().unwrap().parse().unwrap());
    numbers.collect()
}

#[test]
fn tiles_are_timed_once_and_change_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let network = small_mobilenet();
    let variants = quantizers(8).map(|q| q.quantize(&network).unwrap());
    let input = random_input(&network, 3, 9);
    let problem = (&network, &variants[..], &input);
    let tiles = || {
        let files = std::fs::read_dir(dir.path()).unwrap();
        let mut files = files.map(|f| f.unwrap().path());
        files.find(|f| f.extension().is_some_and(|e| e == "tiles"))
    };

    let (outputs, reduced, said) = ask(dir.path(), false, problem);
    assert!(
        said.len() == 1 && said[0].contains("by the table of shapes"),
        "{said:?}"
    );
    assert_eq!(tiles(), None);

    let (timed_outputs, timed_reduced, said) = ask(dir.path(), true, problem);
    assert_eq!((&timed_outputs, &timed_reduced), (&outputs, &reduced));
    let [full, both] = counted(&said, "by timing")[..] else {
        panic!("{said:?}");
    };
    assert!(full > 5 && both == full, "{said:?}");
    assert_eq!(counted(&said, "from earlier runs"), [0, 0]);
    let file = tiles().expect("a file of choices");
    let whole = std::fs::read(&file).unwrap();

    let (kept_outputs, kept_reduced, said) = ask(dir.path(), true, problem);
    assert_eq!((&kept_outputs, &kept_reduced), (&outputs, &reduced));
    assert_eq!(counted(&said, "by timing"), [0, 0]);
    assert_eq!(counted(&said, "from earlier runs"), [full, both]);
    assert_eq!(std::fs::read(&file).unwrap(), whole, "nothing new");

    std::fs::write(&file, &whole[..whole.len() - 9]).unwrap();
    let (again, _, said) = ask(dir.path(), true, problem);
    assert_eq!(again, outputs);
    let damaged = said.iter().filter(|line| line.contains("damaged"));
    assert_eq!(damaged.count(), 1, "{said:?}");
    assert_eq!(counted(&said, "by timing"), [full, both]);
    assert_eq!(tiles(), Some(file));
    let (_, _, said) = ask(dir.path(), true, problem);
    assert_eq!(counted(&said, "by timing"), [0, 0], "made anew");
}
