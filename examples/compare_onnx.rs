//! Compares imported ONNX models with ONNX Runtime, tensor by tensor: `compare_onnx FOLDER`, where
//! `scripts/oracle/export_onnx.py --full FOLDER` has put pairs of `.onnx` and `.json`.

#[path = "../tests/suite/common/onnx_golden.rs"]
mod onnx_golden;

use std::path::PathBuf;

use onnx_golden::{Golden, compare, uniform};
use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;
use quantbound::network::onnx;
use quantbound::tensor::Batch;

fn main() -> anyhow::Result<()> {
    let folder: PathBuf = match std::env::args_os().nth(1) {
        Some(folder) => folder.into(),
        None => anyhow::bail!("usage: compare_onnx FOLDER"),
    };
    let mut models: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    models.sort();
    anyhow::ensure!(!models.is_empty(), "no .onnx file in {}", folder.display());
    let engine = CpuEngine::f64(None)?;
    for path in &models {
        let text = std::fs::read_to_string(path.with_extension("json"))?;
        let golden: Golden = serde_json::from_str(&text)?;
        let imported = onnx::import_file(path, None)?;
        let shape = imported.network.input;
        let input = Batch::new(shape, uniform(golden.seed, shape.len()));
        let input = input.ok_or_else(|| anyhow::anyhow!("an empty input"))?;
        let traced = engine.prepare(&imported.network)?.trace(&input, None)?;
        let traced: Vec<Vec<f64>> = traced.into_iter().map(|batch| batch.data).collect();
        let (compared, worst) = compare(&imported, &golden, &traced);
        let totals = imported.network.totals();
        println!(
            "{}: {compared} nodes, {} layers, {} weights; largest error {worst:.1e} of its tolerance",
            imported.network.name, totals.layers, totals.weights
        );
    }
    Ok(())
}
