//! `quantbound rerun RUN_DIR`

use std::collections::HashSet;
use std::path::PathBuf;

use super::Outcome;
use super::execution::{conclude, execute_all, with_sweep};
use super::options::{BackendName, EngineOptions};
use super::output::{note, say};
use crate::engine::gpu::adapter::recorded;
use crate::experiment::plan::Plan;
use crate::experiment::sweep::{OnFailure, Place};
use crate::results::compare::compare;
use crate::results::provenance::Provenance;
use crate::results::schema::file;
use crate::results::store::{read_json, read_summary};
use crate::tensor::memory;

/// Arguments of `rerun`.
#[derive(clap::Args)]
pub struct Args {
    /// A finished run directory
    run_dir: PathBuf,
    /// Directory of the repetition [default: RUN_DIR-rerun]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// GPU adapter, where the run was on another one [default: as the run says]
    #[arg(long, value_name = "WHICH")]
    adapter: Option<String>,
    /// Memory of the GPU for weights, maps and variants, as in 8G [default: most of a card's, half of what it shares]
    #[arg(long, value_name = "SIZE", value_parser = memory::parse)]
    gpu_memory: Option<usize>,
    /// Threads of the CPU engine [default: one per core]
    #[arg(long, value_name = "T")]
    threads: Option<usize>,
}

impl Args {
    /// Runs the stored plan on the same engine, then compares.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let summary = read_summary(&self.run_dir)?;
        let provenance: Provenance = read_json(&self.run_dir.join(file::PROVENANCE))?;
        // With every default and hash filled in: defaults of this version do not matter.
        let resolved = self.run_dir.join(file::RESOLVED);
        let plan = Plan::read(&resolved)?;
        let written = Plan::text(&self.run_dir.join(file::PLAN))?;
        let engine = self.engine(&provenance)?;
        let out = self.out.unwrap_or_else(|| {
            let mut name = self.run_dir.file_name().unwrap_or_default().to_os_string();
            name.push("-rerun");
            self.run_dir.with_file_name(name)
        });
        let of = (&plan, written.as_str());
        let (cells, _) = with_sweep(of, &engine, Place::At(&out), OnFailure::Stop, |s, tell| {
            s.list(tell)
        })?;
        let here: HashSet<&str> = cells.iter().map(|c| c.spec_id.as_str()).collect();
        let gone = summary
            .cells
            .iter()
            .filter(|c| !here.contains(c.spec_id.as_str()));
        if let Some(first) = gone.clone().next() {
            anyhow::bail!(
                "{}: {} of its {} cells cannot be repeated here, the first of them {}: networks, images or \
                 calibration images are not those of {}; it had {} images with hash {} in {}, and weights {}",
                self.run_dir.display(),
                gone.count(),
                summary.cells.len(),
                first.key.title(),
                file::PROVENANCE,
                provenance.images,
                provenance.images_hash,
                provenance.images_dir,
                weights(&provenance),
            );
        }
        let finished = execute_all(of, &engine, Place::At(&out), OnFailure::GoOn)?;
        let outcome = conclude(&finished)?;
        let found = compare(&self.run_dir, &out)?;
        say!("compared {}", found.sentence());
        for change in found.changes.iter().take(20) {
            say!("  {}", change.line());
        }
        for difference in &found.environment {
            note!(
                "made otherwise: {}: {} -> {}",
                difference.what,
                difference.base,
                difference.new
            );
        }
        Ok(if found.failed() {
            Outcome::Failed
        } else {
            outcome
        })
    }

    /// The engine that the run was made on.
    fn engine(&self, provenance: &Provenance) -> anyhow::Result<EngineOptions> {
        let device = &provenance.device;
        let backend = match device.engine.as_str() {
            "cpu-f32" => BackendName::Cpu,
            "cpu-f64" => BackendName::CpuF64,
            "wgpu-f32" => BackendName::Gpu,
            other => anyhow::bail!("{}: no engine is called {other}", self.run_dir.display()),
        };
        let named = || (backend == BackendName::Gpu).then(|| recorded(device));
        Ok(EngineOptions {
            backend,
            adapter: self.adapter.clone().or_else(named),
            gpu_memory: self.gpu_memory,
            threads: self.threads,
        })
    }
}

fn weights(provenance: &Provenance) -> String {
    let models = provenance.models.iter();
    let all: Vec<String> = models
        .map(|m| format!("{} ({}, SHA-256 {})", m.model, m.weights, m.weights_sha256))
        .collect();
    all.join(", ")
}
