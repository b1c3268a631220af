//! Statements for most images (docs/bounds.md, T1 to T6) from the numbers that a run has stored.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::plan::{PlanError, Tails};
use crate::experiment::subject::augment::CalibrationImages;
use crate::experiment::subject::model::LoadedModel;

use crate::bounds::probabilistic::{
    Tail, TailError, TailFacts, curve, mean, moments, next_image, together, tolerance,
};
use crate::data::ImageSet;
use crate::facts;
use crate::network::{Activation, Network};
use crate::results::schema::{CellKey, MeasurementRow, OutputRow, SampleBoundRow, TailRow, file};
use crate::results::store::{RunStore, StoreError, for_each_row};

/// `max |y' - y|` of an image.
pub const MAX: &str = "max_abs_diff";
/// Euclidean norm of `y' - y`.
pub const L2: &str = "l2_diff";
/// 1 where the largest logit is another one.
pub const FLIP: &str = "flip";
/// 1 where the `sample` bound does not promise the label: the largest logit leads by no more than twice the bound.
pub const UNCERTIFIED: &str = "uncertified";
/// Statistics that are 0 or 1.
const RATES: [&str; 2] = [FLIP, UNCERTIFIED];

impl Tails {
    /// Refuses images that the quantizers have seen: the statements need a pair fixed without looking at them.
    pub fn check_apart(
        images: &ImageSet,
        calibration: &CalibrationImages,
    ) -> Result<(), PlanError> {
        let seen: HashMap<&str, &str> = calibration
            .files()
            .map(|f| (f.hash.as_str(), f.name.as_str()))
            .collect();
        let shared = |f: &&crate::data::ImageFile| seen.contains_key(f.hash.as_str());
        let count = images.images.iter().filter(shared).count();
        let Some(first) = images.images.iter().find(shared) else {
            return Ok(());
        };
        Err(PlanError::Value {
            path: images.directory.clone(),
            problem: format!(
                "{count} of the images are calibration images too (the first: {}, which is {} there): tail bounds need \
                 networks quantized without looking at the images they are judged on; give [calibration] other images, \
                 or part one folder by limit and skip",
                first.name,
                seen[first.hash.as_str()]
            ),
        })
    }

    fn scales_of(&self, n: usize) -> usize {
        self.scale_images.unwrap_or((n / 5).max(1))
    }
}

/// What a cell's images gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// By statistic and depth: one number per observation, NaN where nothing finite was found.
    pub numbers: BTreeMap<(String, u32), Vec<f64>>,
}

/// Images of one content are one observation. The order is that of the contents' hashes, which knows nothing of what
/// is measured: the first ones may fix scales.
pub struct Observations<'a> {
    by_name: HashMap<&'a str, usize>,
    count: usize,
}

impl<'a> Observations<'a> {
    /// Of a set of images.
    pub fn of(images: &'a ImageSet) -> Self {
        let mut hashes: Vec<&str> = images.images.iter().map(|f| f.hash.as_str()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let place: HashMap<&str, usize> = hashes.iter().zip(0..).map(|(h, i)| (*h, i)).collect();
        let named = images.images.iter();
        Self {
            by_name: named
                .map(|f| (f.name.as_str(), place[f.hash.as_str()]))
                .collect(),
            count: hashes.len(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Samples {
    /// The largest of an observation's numbers; NaN stays.
    fn put(&mut self, of: &Observations<'_>, image: &str, at: (&str, u32), value: f64) {
        let Some(&i) = of.by_name.get(image) else {
            return;
        };
        let key = (at.0.to_string(), at.1);
        let numbers = self
            .numbers
            .entry(key)
            .or_insert_with(|| vec![f64::NEG_INFINITY; of.count]);
        let so_far = numbers[i];
        numbers[i] = if so_far.is_nan() || value.is_nan() {
            f64::NAN
        } else {
            so_far.max(value)
        };
    }
}

/// Every statement about one cell.
pub fn statements(
    settings: &Tails,
    key: &CellKey,
    network: &Network,
    samples: &Samples,
) -> Result<Vec<TailRow>, TailError> {
    let mut rows = Rows {
        settings,
        key,
        network,
        rows: Vec::new(),
    };
    for ((statistic, depth), z) in &samples.numbers {
        if RATES.contains(&statistic.as_str()) {
            rows.of_rate(statistic, *depth, z)?;
        } else {
            rows.of_depth(statistic, *depth, z)?;
        }
    }
    let mut statistics: Vec<&str> = samples.numbers.keys().map(|(s, _)| s.as_str()).collect();
    statistics.dedup();
    for statistic in statistics.into_iter().filter(|s| !RATES.contains(s)) {
        let depths = samples.numbers.iter().filter(|((s, _), _)| s == statistic);
        let depths: Vec<(u32, &[f64])> = depths.map(|((_, d), z)| (*d, z.as_slice())).collect();
        rows.of_all_depths(statistic, &depths)?;
    }
    Ok(rows.rows)
}

struct Rows<'a> {
    settings: &'a Tails,
    key: &'a CellKey,
    network: &'a Network,
    rows: Vec<TailRow>,
}

/// What a row says beside its place.
struct Said {
    value: f64,
    coverage: Option<f64>,
    confidence: Option<f64>,
    n: usize,
    k: usize,
    needed: Option<u64>,
}

impl Said {
    fn of(tail: &Tail, needed: Option<u64>) -> Self {
        Self {
            value: tail.value,
            coverage: Some(tail.coverage),
            confidence: tail.confidence,
            n: tail.n,
            k: tail.k,
            needed,
        }
    }
}

impl Rows<'_> {
    fn push(&mut self, theorem: &TailFacts, statistic: &str, depth: u32, said: Said) {
        self.rows.push(TailRow {
            cell_id: self.key.cell_id.clone(),
            model: self.key.model.clone(),
            quantizer: self.key.quantizer.clone(),
            bits: self.key.bits,
            granularity: self.key.granularity.name().to_string(),
            theorem: theorem.id.to_string(),
            statistic: statistic.to_string(),
            depth,
            layer: self.network.name_at(depth as usize).to_string(),
            value: said.value,
            coverage: said.coverage,
            confidence: said.confidence,
            n: said.n as u32,
            k: said.k as u32,
            needed: said.needed.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        });
    }

    fn of_depth(&mut self, statistic: &str, depth: u32, z: &[f64]) -> Result<(), TailError> {
        let Tails {
            coverage,
            confidence,
            ..
        } = *self.settings;
        let one = as_far_as_supported(coverage, |c| tolerance::tail(z, c, confidence))?;
        if let Some((tail, needed)) = one {
            self.push(&tolerance::FACTS, statistic, depth, Said::of(&tail, needed));
        }
        let next = as_far_as_supported(coverage, |c| next_image::tail(z, c))?;
        if let Some((tail, needed)) = next {
            self.push(
                &next_image::FACTS,
                statistic,
                depth,
                Said::of(&tail, needed),
            );
        }
        let whole = as_far_as_supported(coverage, |c| curve::tail(z, c, confidence))?;
        if let Some((tail, needed)) = whole {
            self.push(&curve::DKW, statistic, depth, Said::of(&tail, needed));
        }
        if z.iter().all(|z| z.is_finite()) {
            let next = as_far_as_supported(coverage, |c| moments::tail(z, c))?;
            if let Some((tail, needed)) = next {
                self.push(&moments::FACTS, statistic, depth, Said::of(&tail, needed));
            }
        }
        match self.range(statistic, depth) {
            Some(c) => self.of_mean(statistic, depth, z, c),
            None => Ok(()),
        }
    }

    /// The range that is a theorem: both networks' values lie in [0, 6] after a ReLU6.
    fn range(&self, statistic: &str, depth: u32) -> Option<f64> {
        let taps = self.network.taps();
        let tap = taps.iter().find(|t| t.depth == depth as usize)?;
        let capped = self.network.nodes[tap.node].activation == Activation::Relu6;
        (statistic == MAX && capped).then_some(6.0)
    }

    fn of_mean(&mut self, statistic: &str, depth: u32, z: &[f64], c: f64) -> Result<(), TailError> {
        // What is no number counts as the whole range.
        let z: Vec<f64> = z
            .iter()
            .map(|&z| if z.is_nan() { c } else { z.min(c) })
            .collect();
        let confidence = self.settings.confidence;
        let said = |value: f64| Said {
            value,
            coverage: None,
            confidence: Some(confidence),
            n: z.len(),
            k: 0,
            needed: None,
        };
        let hoeffding = said(mean::hoeffding(&z, c, confidence)?);
        let bernstein = said(mean::bernstein(&z, c, confidence)?);
        self.push(&mean::HOEFFDING, statistic, depth, hoeffding);
        self.push(&mean::BERNSTEIN, statistic, depth, bernstein);
        Ok(())
    }

    fn of_rate(&mut self, statistic: &str, depth: u32, z: &[f64]) -> Result<(), TailError> {
        let confidence = self.settings.confidence;
        let said = Said {
            value: curve::exceedance(z, 0.5, confidence)?,
            coverage: None,
            confidence: Some(confidence),
            n: z.len(),
            k: z.iter().filter(|z| z.is_nan() || **z > 0.5).count(),
            needed: None,
        };
        self.push(&curve::RATE, statistic, depth, said);
        self.of_mean(statistic, depth, z, 1.0)
    }

    fn of_all_depths(
        &mut self,
        statistic: &str,
        depths: &[(u32, &[f64])],
    ) -> Result<(), TailError> {
        let n = depths.first().map_or(0, |(_, z)| z.len());
        let apart = self.settings.scales_of(n);
        if apart >= n {
            return Ok(());
        }
        // A depth where a scale image differs by nothing, or by no number, is left out.
        let scale = |z: &[f64]| {
            let largest = z[..apart]
                .iter()
                .fold(0.0f64, |m, &z| if z.is_nan() { z } else { m.max(z) });
            if largest.is_finite() { largest } else { 0.0 }
        };
        let scales: Vec<f64> = depths.iter().map(|(_, z)| scale(z)).collect();
        let images: Vec<Vec<f64>> = (apart..n)
            .map(|i| depths.iter().map(|(_, z)| z[i]).collect())
            .collect();
        let Tails {
            coverage,
            confidence,
            ..
        } = *self.settings;
        let found = as_far_as_supported(coverage, |c| {
            together::tails(&images, &scales, c, confidence)
        })?;
        let Some((all, needed)) = found else {
            return Ok(());
        };
        for (&(depth, _), value) in depths.iter().zip(&all.values) {
            if let Some(value) = *value {
                let said = Said {
                    value,
                    coverage: Some(all.coverage),
                    confidence: Some(all.confidence),
                    n: all.n,
                    k: all.k,
                    needed,
                };
                self.push(&together::FACTS, statistic, depth, said);
            }
        }
        Ok(())
    }
}

/// The statement at that coverage; where there are too few images, the one that they do support and how many the other
/// needs. `None` where no image supports anything.
fn as_far_as_supported<T>(
    coverage: f64,
    state: impl Fn(f64) -> Result<T, TailError>,
) -> Result<Option<(T, Option<u64>)>, TailError> {
    match state(coverage) {
        Ok(tail) => Ok(Some((tail, None))),
        Err(TailError::TooFew {
            needed, supported, ..
        }) => {
            // The supported share is rounded to the weaker side once more: its complement is what is compared.
            let weaker = supported * (1.0 - 1e-12);
            if weaker <= 0.0 {
                return Ok(None);
            }
            match state(weaker) {
                Ok(tail) => Ok(Some((tail, Some(needed)))),
                Err(TailError::TooFew { .. }) => Ok(None),
                Err(other) => Err(other),
            }
        }
        Err(other) => Err(other),
    }
}

/// Stores every statement about the run's cells, and says the one about all depths in words.
pub fn write(
    settings: &Tails,
    models: &[LoadedModel],
    all: &[Cell],
    images: &ImageSet,
    store: &RunStore,
) -> Result<Option<String>, SweepError> {
    let of = Observations::of(images);
    let depths = models.iter().map(|m| m.network.taps().len()).max();
    let numbers = 3 * of.count().max(1) * depths.unwrap_or(1).max(1);
    let mut rows = Vec::new();
    for cells in all.chunks((AT_ONCE / numbers).max(1)) {
        let samples = read(store.dir(), models, cells, &of)?;
        for (cell, samples) in cells.iter().zip(&samples) {
            let network = &models[cell.model].network;
            rows.extend(statements(settings, &cell.key, network, samples)?);
        }
    }
    store.write_table(&rows)?;
    Ok(TailRow::headline(&rows, all.len()))
}

/// Numbers held at once: the tables are read again for further cells.
const AT_ONCE: usize = 1 << 25;

fn read(
    dir: &Path,
    models: &[LoadedModel],
    cells: &[Cell],
    of: &Observations<'_>,
) -> Result<Vec<Samples>, StoreError> {
    let ids = cells.iter().map(|c| c.key.cell_id.as_str());
    let index: HashMap<&str, usize> = ids.zip(0..).collect();
    let mut samples: Vec<Samples> = vec![Samples::default(); cells.len()];
    for_each_row(&dir.join(file::MEASUREMENTS), |row: MeasurementRow| {
        if let Some(&i) = index.get(row.cell_id.as_str()) {
            let l2 = if row.max_abs_diff.is_nan() {
                f64::NAN
            } else {
                row.l2_diff
            };
            samples[i].put(of, &row.image, (MAX, row.depth), row.max_abs_diff);
            samples[i].put(of, &row.image, (L2, row.depth), l2);
        }
    })?;
    let output = |i: usize| {
        let taps = models[cells[i].model].network.taps();
        taps.last().map_or(0, |t| t.depth as u32)
    };
    // Networks without logits have no label to flip.
    let mut logits: HashSet<usize> = HashSet::new();
    let mut margins: HashMap<(usize, String), f64> = HashMap::new();
    for_each_row(&dir.join(file::OUTPUTS), |row: OutputRow| {
        if let Some(&i) = index.get(row.cell_id.as_str()) {
            samples[i].put(of, &row.image, (MAX, output(i)), row.max_abs_diff);
            let flip = match (row.top1_ref, row.top1_quant) {
                (Some(a), Some(b)) => {
                    logits.insert(i);
                    f64::from(u8::from(a != b))
                }
                _ => f64::NAN,
            };
            samples[i].put(of, &row.image, (FLIP, output(i)), flip);
            if let Some(margin) = row.ref_margin {
                margins.insert((i, row.image), margin);
            }
        }
    })?;
    for (i, samples) in samples.iter_mut().enumerate() {
        if !logits.contains(&i) {
            samples
                .numbers
                .retain(|(statistic, _), _| statistic != FLIP);
        }
    }
    let bounds = dir.join(file::SAMPLE_BOUNDS);
    if bounds.is_file() {
        for_each_row(&bounds, |row: SampleBoundRow| {
            if let Some(&i) = index.get(row.cell_id.as_str()) {
                // Rounded upward; what leaves f64 is infinite.
                let bound = 10f64.powf(row.log10_bound) * (1.0 + 1e-12);
                samples[i].put(of, &row.image, (&row.bound, row.depth), bound);
                if row.bound == facts::SAMPLE.id && row.depth == output(i) && logits.contains(&i) {
                    // Without a margin, or with a bound that is no number, nothing is promised; the margin is rounded.
                    let margin = margins.get(&(i, row.image.clone()));
                    let promised = margin.is_some_and(|m| m * (1.0 - 1e-6) > 2.0 * bound);
                    let uncertified = f64::from(u8::from(!promised));
                    samples[i].put(of, &row.image, (UNCERTIFIED, row.depth), uncertified);
                }
            }
        })?;
    }
    Ok(samples)
}
