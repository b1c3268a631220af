//! `quantbound doctor`: is everything here that the quickstart needs, and does it work?

use std::path::{Path, PathBuf};

use super::doctor_findings::{Findings, Mark};
use super::options::{EngineOptions, gpu_options, tell};
use super::preprocessing::PreprocessingOptions;
use super::{Outcome, doctor_images, doctor_networks};
use crate::data::{ImageSet, Labels, Manifest, reference};
use crate::engine::Engine;
use crate::engine::cpu::CpuEngine;
use crate::engine::gpu::GpuEngine;
use crate::engine::gpu::adapter::list_adapters;
use crate::engine::select::{Backend, select};
use crate::experiment::logits::top1;
use crate::experiment::plan::Model;
use crate::experiment::subject::model::LoadedModel;

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the manifests and of what scripts/fetch-assets put there [default: datasets, where there is one]
    #[arg(long, value_name = "DIR")]
    datasets: Option<PathBuf>,
    /// Check these images with --model and --weights instead: labels, channel order, normalization
    #[arg(long, value_name = "DIR", requires = "model", requires = "weights")]
    images: Option<PathBuf>,
    /// Architecture, e.g. efficientnet_lite0
    #[arg(long, value_name = "M", requires = "images")]
    model: Option<String>,
    /// Checkpoint with a classifier
    #[arg(long, value_name = "FILE", requires = "images")]
    weights: Option<PathBuf>,
    /// Labels: file-name, folders or a .csv file [default: what the folder's layout speaks for]
    #[arg(long, value_name = "SOURCE", requires = "images")]
    labels: Option<Labels>,
    /// Use only so many images, of class folders the first ones of each
    #[arg(long, default_value_t = 100, value_name = "N", requires = "images")]
    limit: usize,
    /// JSON on standard output in the place of lines (results/schema.md, --json)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pictures: PreprocessingOptions,
    #[command(flatten)]
    engine: EngineOptions,
}

/// Right answers of full-precision EfficientNet-Lite0 on the 20 sample images, as PyTorch has it.
const EXPECTED_RIGHT: usize = 18;

impl Args {
    /// Runs every check, tells each outcome, and fails when one does.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let mut found = Findings::new(self.json);
        if let (Some(images), Some(name), Some(weights)) =
            (&self.images, &self.model, &self.weights)
        {
            anyhow::ensure!(self.limit > 0, "--limit 0: give at least one image");
            let planned = Model {
                name: name.clone(),
                weights: weights.clone(),
                activation: None,
                preprocessing: self.pictures.settings(),
            };
            let model = LoadedModel::load(&planned, None)?;
            tell(&model);
            let engine = self.engine.select()?.engine;
            let labels = self.labels.as_ref();
            doctor_images::check(
                &model,
                images,
                labels,
                self.limit,
                engine.as_ref(),
                &mut found,
            )?;
            let chosen = (images.as_path(), labels, self.limit);
            doctor_networks::check(&planned, &model, chosen, engine.as_ref(), &mut found)?;
            return Ok(found.finish()?);
        }
        let usual = Path::new("datasets");
        let here = usual.is_dir().then_some(usual);
        told(&mut found, "devices", devices())?;
        match self.datasets.as_deref().or(here) {
            Some(datasets) => {
                for (name, check) in SAMPLED {
                    told(&mut found, name, check(datasets))?;
                }
            }
            None => {
                for (name, _) in SAMPLED {
                    let why = "no folder datasets here, which the project's source has; give --datasets DIR";
                    found.tell(Mark::Skip, name, &format!("{name}: {why}"))?;
                }
                found.tell(
                    Mark::Note,
                    "images",
                    "one's own images and weights are checked by --images DIR --model M --weights F",
                )?;
            }
        }
        Ok(found.finish()?)
    }
}

/// What a check found, line by line.
type Checked = anyhow::Result<Vec<String>>;
/// A check of what lies in a folder.
type Check = fn(&Path) -> Checked;

/// What needs the project's sample networks and images.
const SAMPLED: [(&str, Check); 3] = [
    ("assets", assets),
    ("preprocessing", preprocessing),
    ("top-1", accuracy),
];

/// Tells a check's outcome.
fn told(found: &mut Findings, name: &str, checked: Checked) -> std::io::Result<()> {
    match checked {
        Ok(lines) => lines
            .iter()
            .try_for_each(|line| found.tell(Mark::Ok, name, &format!("{name}: {line}"))),
        Err(error) => found.tell(Mark::Fail, name, &format!("{name}: {error:#}")),
    }
}

/// Opens every adapter that is there; a machine without any runs on the processor, which is no fault.
fn devices() -> Checked {
    let mut lines = Vec::new();
    for adapter in list_adapters() {
        GpuEngine::new(Some(&adapter.index.to_string()))?;
        let place = match adapter.pci.as_str() {
            "" => String::new(),
            pci => format!(", {pci}"),
        };
        lines.push(format!(
            "{}: {} ({}, {}{place}) opens",
            adapter.index, adapter.name, adapter.kind, adapter.driver
        ));
    }
    let auto = select(Backend::Auto, None, None, gpu_options(None))?;
    lines.push(format!(
        "auto takes {}: {}",
        auto.engine.device().engine,
        auto.reason
    ));
    Ok(lines)
}

fn assets(datasets: &Path) -> Checked {
    let mut lines = Vec::new();
    for manifest in Manifest::all(datasets)? {
        let files = manifest.verify();
        let count = files.len();
        for (_, result) in files {
            result?;
        }
        lines.push(format!("{}: {count} files, checksums match", manifest.name));
    }
    anyhow::ensure!(
        !lines.is_empty(),
        "{}: no manifests; run this in the project's folder, or give --datasets",
        datasets.display()
    );
    Ok(lines)
}

fn preprocessing(datasets: &Path) -> Checked {
    let d = reference::compare(&datasets.join("imagenet-samples"))?;
    let line = format!(
        "{} of {} samples of {} crops differ from Pillow's, by at most {}",
        d.differing, d.samples, d.images, d.max
    );
    // Resizing may round a tie the other way; anything more is a fault.
    anyhow::ensure!(
        d.images > 0 && d.max <= 1 && d.differing * 100 <= d.samples,
        "{line}"
    );
    Ok(vec![line])
}

fn accuracy(datasets: &Path) -> Checked {
    let model = LoadedModel::load(
        &Model {
            name: "efficientnet_lite0".into(),
            weights: datasets.join("efficientnet_lite0/efficientnet-lite0-57934424.pth"),
            activation: None,
            preprocessing: None,
        },
        None,
    )?;
    let images = ImageSet::open(&datasets.join("imagenet-samples"), None)?;
    let input = images.load(0..images.len(), &model.preprocessing)?;
    let engine = CpuEngine::f32(None)?;
    let outputs = engine.prepare(&model.network)?.reference(&input)?;
    let right = (0..images.len()).filter(|&i| {
        let label = images.images[i].label;
        label.is_some() && top1(&outputs[i]) == label
    });
    let right = right.count();
    let line = format!(
        "efficientnet_lite0 has {right} of {} sample images right",
        images.len()
    );
    anyhow::ensure!(
        right == EXPECTED_RIGHT && images.len() == 20,
        "{line}; expected {EXPECTED_RIGHT} of 20: wrong weights, images or preprocessing"
    );
    Ok(vec![line])
}
