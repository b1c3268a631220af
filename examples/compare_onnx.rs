//! Compares imported ONNX models with ONNX Runtime, tensor by tensor: `compare_onnx FOLDER`, where
//! `scripts/oracle/export_onnx.py --full FOLDER` or `scripts/oracle/fuzz_onnx.py` has put pairs of `.onnx` and `.json`.
//! One line for each model: `ok`, `refused` with the reason, `WRONG` or `PANIC`; exit code 1 unless all are ok.

#[path = "../tests/suite/common/onnx_golden.rs"]
mod onnx_golden;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use onnx_golden::{Golden, compare, uniform};
use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;
use quantbound::network::onnx::{self, Imported};
use quantbound::tensor::Batch;

/// Every node's values for the golden's input, in f64.
fn trace(imported: &Imported, golden: &Golden) -> anyhow::Result<Vec<Vec<f64>>> {
    let shape = imported.network.input;
    let input = Batch::new(shape, uniform(golden.seed, shape.len()));
    let input = input.ok_or_else(|| anyhow::anyhow!("an empty input"))?;
    let engine = CpuEngine::f64(None)?;
    let traced = engine.prepare(&imported.network)?.trace(&input, None)?;
    Ok(traced.into_iter().map(|batch| batch.data).collect())
}

/// What a panic said.
fn said(payload: &(dyn std::any::Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned
        .or(payload.downcast_ref::<&str>().copied())
        .unwrap_or("without a text")
}

fn outcome(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path.with_extension("json"))?;
    let golden: Golden = serde_json::from_str(&text)?;
    let imported = match catch_unwind(|| onnx::import_file(path, None)) {
        Err(panic) => return Ok(format!("PANIC {}", said(&*panic))),
        Ok(Err(error)) => return Ok(format!("refused {error}")),
        Ok(Ok(imported)) => imported,
    };
    let traced = match catch_unwind(|| trace(&imported, &golden)) {
        Err(panic) => return Ok(format!("PANIC {}", said(&*panic))),
        Ok(traced) => traced?,
    };
    let totals = imported.network.totals();
    Ok(
        match catch_unwind(|| compare(&imported, &golden, &traced)) {
            Err(panic) => format!("WRONG {}", said(&*panic)),
            Ok((compared, worst)) => format!(
                "ok {compared} nodes, {} layers, {} weights; largest error {worst:.1e} of its tolerance",
                totals.layers, totals.weights
            ),
        },
    )
}

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
    let mut all = true;
    for path in &models {
        let outcome = outcome(path)?;
        all &= outcome.starts_with("ok");
        let stem = path.file_stem().unwrap_or_default();
        println!("{}: {outcome}", stem.to_string_lossy());
    }
    anyhow::ensure!(all, "not every model agrees");
    Ok(())
}
