//! What images add to the ladder of `quantbound bounds`: per-sample bounds and the measurement.

use std::path::PathBuf;

use super::options::EngineOptions;
use crate::bounds::Series;
use crate::data::ImageSet;
use crate::engine::select::Selected;
use crate::engine::{SampleBound, TapStats};
use crate::experiment::studies::sample_bounds::{id, log10_up};
use crate::experiment::subject::model::LoadedModel;
use crate::facts;
use crate::network::Tap;
use crate::quant::QuantizedNetwork;
use crate::tensor::Batch;

/// Images to bound from.
#[derive(clap::Args)]
pub struct SampleOptions {
    /// Folder of images: adds `sample`, the bound from each image's activations, and what is measured; the largest over
    /// the images
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Use only the first so many images
    #[arg(long, value_name = "N", requires = "images")]
    limit: Option<usize>,
    /// Adds `ball:R`, the bound for every input within R of an image, in units of normalized pixels; on the processor
    /// `ball-centred:R` too, from the discrepancy at the image
    #[arg(long, value_name = "R", requires = "images")]
    radius: Option<f64>,
    #[command(flatten)]
    engine: EngineOptions,
}

/// Images, and an engine to run them.
pub struct Images<'a> {
    model: &'a LoadedModel,
    selected: Selected,
    images: ImageSet,
    radius: Option<f64>,
}

/// What the images add, each the largest over them and by node; NaN at nodes where nothing is measured.
#[derive(Default)]
pub struct OnImages {
    /// `sample`, `ball:R`, `ball-centred:R` and `measured`.
    pub ladder: Vec<(String, Series)>,
    /// For each of the bounds, the share of elements where it allows the whole range of the activation.
    pub capped: Vec<(String, Vec<f64>)>,
}

impl SampleOptions {
    /// Opens the images, if there are any.
    pub fn open<'a>(&self, model: &'a LoadedModel) -> anyhow::Result<Option<Images<'a>>> {
        let Some(dir) = &self.images else {
            return Ok(None);
        };
        Ok(Some(Images {
            model,
            selected: self.engine.select()?,
            images: ImageSet::open(dir, self.limit)?,
            radius: self.radius,
        }))
    }
}

impl Images<'_> {
    /// Bounds and measures one variant.
    pub fn bounds(&self, quantized: &QuantizedNetwork) -> anyhow::Result<OnImages> {
        let network = &self.model.network;
        let taps = network.taps();
        let mut runner = self.selected.engine.prepare(network)?;
        let variant = runner.load(quantized)?;
        let mut stats: Vec<Vec<TapStats>> = Vec::new();
        let knows_centred = runner.samples()?.knows_centred();
        let mut asked = vec![Asked::Ball(0.0)];
        asked.extend(self.radius.map(Asked::Ball));
        asked.extend(self.radius.filter(|_| knows_centred).map(Asked::Centred));
        let mut bounds: Vec<Vec<Vec<SampleBound>>> = vec![Vec::new(); asked.len()];
        // A few images at a time, so that no set is too large for memory.
        let size = runner.max_batch().min(32);
        for first in (0..self.images.len()).step_by(size) {
            let last = (first + size).min(self.images.len());
            let input: Batch = self.images.load(first..last, &self.model.preprocessing)?;
            runner.reference(&input)?;
            stats.extend(runner.compare(&variant)?.stats);
            let samples = runner.samples()?;
            for (asked, bounds) in asked.iter().zip(&mut bounds) {
                bounds.extend(match *asked {
                    Asked::Ball(radius) => samples.bounds(&variant, radius)?,
                    Asked::Centred(radius) => samples.centred(&variant, radius)?,
                });
            }
        }
        let nodes = network.nodes.len();
        let by_node = |at: &dyn Fn(usize) -> f64| by_node(&taps, nodes, at);
        let mut found = OnImages::default();
        for (asked, bounds) in asked.iter().zip(&bounds) {
            let over = |f: fn(&SampleBound) -> f64| {
                by_node(&|tap| largest(bounds.iter().map(|image| f(&image[tap]))))
            };
            let log10 = over(|b| log10_up(b.bound));
            found.ladder.push((asked.id(), Series { log10 }));
            found
                .capped
                .push((asked.id(), over(SampleBound::capped_share)));
        }
        let measured = |image: &Vec<TapStats>, tap: usize| image[tap].largest().log10();
        let log10 = by_node(&|tap| largest(stats.iter().map(|image| measured(image, tap))));
        found.ladder.push(("measured".into(), Series { log10 }));
        Ok(found)
    }
}

/// A bound of samples, by its radius.
enum Asked {
    Ball(f64),
    Centred(f64),
}

impl Asked {
    fn id(&self) -> String {
        match *self {
            Self::Ball(radius) => id(radius),
            Self::Centred(radius) => facts::BALL_CENTRED.with(radius),
        }
    }
}

fn by_node(taps: &[Tap], nodes: usize, at: &dyn Fn(usize) -> f64) -> Vec<f64> {
    let mut values = vec![f64::NAN; nodes];
    for (i, tap) in taps.iter().enumerate() {
        values[tap.node] = at(i);
    }
    values
}

/// The largest; NaN if there is one.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::NEG_INFINITY, |most, v| {
        if v > most || v.is_nan() { v } else { most }
    })
}
