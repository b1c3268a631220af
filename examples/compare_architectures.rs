//! Compares architectures with PyTorch, node by node: `compare_architectures FOLDER`, where
//! `scripts/oracle/architectures.py --full FOLDER` has put pairs of `.safetensors` and `.json`.

#[path = "../tests/suite/common/architecture_golden.rs"]
mod architecture_golden;
#[path = "../tests/suite/common/onnx_golden.rs"]
#[allow(dead_code)]
mod onnx_golden;

use std::path::PathBuf;

use architecture_golden::{Golden, compare, fnv1a};
use onnx_golden::uniform;
use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;
use quantbound::network::zoo::{self, Model};
use quantbound::tensor::Batch;

fn main() -> anyhow::Result<()> {
    let folder: PathBuf = match std::env::args_os().nth(1) {
        Some(folder) => folder.into(),
        None => anyhow::bail!("usage: compare_architectures FOLDER"),
    };
    let mut checkpoints: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    checkpoints.sort();
    anyhow::ensure!(
        !checkpoints.is_empty(),
        "no checkpoint in {}",
        folder.display()
    );
    let engine = CpuEngine::f64(None)?;
    for path in &checkpoints {
        let text = std::fs::read_to_string(path.with_extension("json"))?;
        let goldens: Vec<Golden> = serde_json::from_str(&text)?;
        let dict = zoo::read_checkpoint(path)?;
        for golden in &goldens {
            let loaded = Model::find(&golden.model)?.load(&dict, golden.side)?;
            anyhow::ensure!(
                loaded.report.is_clean(),
                "{}\n{}",
                path.display(),
                loaded.report
            );
            let shape = loaded.network.input;
            let input = Batch::new(shape, uniform(fnv1a("input"), shape.len()));
            let input = input.ok_or_else(|| anyhow::anyhow!("an empty input"))?;
            let traced = engine.prepare(&loaded.network)?.trace(&input, None)?;
            let traced: Vec<Vec<f64>> = traced.into_iter().map(|batch| batch.data).collect();
            let worst = compare(&loaded.network, golden, &traced);
            println!(
                "{} at {}: {} nodes, {}; largest error {worst:.1e} of its tolerance",
                golden.model,
                golden.side,
                traced.len(),
                loaded.naming
            );
        }
    }
    Ok(())
}
