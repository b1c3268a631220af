//! Tables that follow from the others of a finished run: the ledger and the required bits.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::ledger::{Known, ledger};
use super::required_bits::{Family, required_bits};
use super::summary::activation_bits;
use super::tails::MAX;
use crate::bounds::probabilistic::tolerance;
use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::subject::model::LoadedModel;
use crate::facts;
use crate::results::schema::{
    BoundRow, LedgerRow, MeasurementRow, OutputRow, SampleBoundRow, SearchRow, TailRow,
    VerdictCounts, file,
};
use crate::results::store::{RunStore, StoreError, for_each_row};

/// What is known of a cell, by depth.
pub type Depths = BTreeMap<u32, Known>;

/// Derives and stores both tables; the others are there.
pub fn write(
    models: &[LoadedModel],
    cells: &[Cell],
    tolerances: &[f64],
    store: &RunStore,
) -> Result<(), SweepError> {
    let known = read(cells, store.dir())?;
    let of_cell = |(cell, depths): (&Cell, &Depths)| -> Vec<LedgerRow> {
        let network = &models[cell.model].network;
        let depths = depths.iter().flat_map(|(&depth, known)| {
            let layer = network.name_at(depth as usize);
            ledger(&cell.key, depth, layer, known)
        });
        depths.collect()
    };
    store.write_table_of(cells.iter().zip(&known).map(of_cell))?;

    let mut rows = Vec::new();
    for family in families(models, cells, &known)? {
        rows.extend(required_bits(&family, tolerances)?);
    }
    Ok(store.write_table(&rows)?)
}

/// Verdicts on the inputs that searches found; none without a search.
pub fn searched(store: &RunStore) -> Result<VerdictCounts, StoreError> {
    let mut counts = VerdictCounts::default();
    let table = store.dir().join(file::SEARCH);
    if table.is_file() {
        for_each_row(&table, |row: SearchRow| {
            counts += VerdictCounts {
                holds: row.holds.into(),
                undecided: row.undecided.into(),
                violated: row.violated.into(),
                invalid: row.invalid.into(),
                cleared: 0,
                within_decade: row.within_decade.into(),
                smallest_slack: row.smallest_slack,
            };
        })?;
    }
    Ok(counts)
}

/// Cells that differ in nothing but their bit width.
fn families<'a>(
    models: &'a [LoadedModel],
    cells: &'a [Cell],
    known: &'a [Depths],
) -> Result<Vec<Family<'a>>, SweepError> {
    let mut families: Vec<Family<'a>> = Vec::new();
    for (cell, depths) in cells.iter().zip(known) {
        let key = &cell.key;
        let same = |f: &&mut Family<'a>| {
            (f.quantizer, f.granularity) == (key.quantizer.as_str(), key.granularity)
                && std::ptr::eq(f.model, &models[cell.model])
        };
        match families.iter_mut().find(same) {
            Some(family) => family.swept.insert(key.bits, depths),
            None => {
                families.push(Family {
                    model: &models[cell.model],
                    quantizer: &key.quantizer,
                    granularity: key.granularity,
                    rounds_activations: activation_bits(&cell.spec.quantizer)?.is_some(),
                    swept: BTreeMap::from([(key.bits, depths)]),
                });
                None
            }
        };
    }
    Ok(families)
}

/// The largest of what was seen so far; NaN stays.
fn worst(so_far: f64, value: f64) -> f64 {
    if so_far.is_nan() || value.is_nan() {
        f64::NAN
    } else {
        so_far.max(value)
    }
}

fn read(cells: &[Cell], dir: &Path) -> Result<Vec<Depths>, StoreError> {
    let index: HashMap<&str, usize> = cells
        .iter()
        .enumerate()
        .map(|(i, c)| (c.key.cell_id.as_str(), i))
        .collect();
    let mut known: Vec<Depths> = vec![BTreeMap::new(); cells.len()];
    // Measurements are made for layers, bounds for the output too.
    for_each_row(&dir.join(file::BOUNDS), |row: BoundRow| {
        if let Some(&i) = index.get(row.cell_id.as_str()) {
            let at = known[i].entry(row.depth).or_insert_with(nothing);
            at.bounds.push((row.bound, row.log10_bound));
        }
    })?;
    let mut measured = |cell: &str, depth: Option<u32>, value: f64| {
        let Some(&i) = index.get(cell) else { return };
        let at = match depth {
            Some(depth) => known[i].get_mut(&depth),
            None => known[i].values_mut().last(),
        };
        if let Some(at) = at {
            at.measured = worst(at.measured, value.log10());
        }
    };
    for_each_row(&dir.join(file::MEASUREMENTS), |row: MeasurementRow| {
        measured(&row.cell_id, Some(row.depth), row.max_abs_diff);
    })?;
    for_each_row(&dir.join(file::OUTPUTS), |row: OutputRow| {
        measured(&row.cell_id, None, row.max_abs_diff);
    })?;
    let mut found = |cell: &str, depth: u32, set: &dyn Fn(&mut Known)| {
        let at = index.get(cell).map(|&i| &mut known[i]);
        if let Some(at) = at.and_then(|depths| depths.get_mut(&depth)) {
            set(at);
        }
    };
    let sample = dir.join(file::SAMPLE_BOUNDS);
    if sample.is_file() {
        for_each_row(&sample, |row: SampleBoundRow| {
            if row.bound == facts::SAMPLE.id {
                let log10 = row.log10_bound;
                found(&row.cell_id, row.depth, &|k| {
                    k.sample = Some(k.sample.map_or(log10, |s| worst(s, log10)));
                });
            }
        })?;
    }
    let tails = dir.join(file::TAILS);
    if tails.is_file() {
        for_each_row(&tails, |row: TailRow| {
            let stated = row.theorem == tolerance::FACTS.id && row.statistic == MAX;
            if stated && row.needed.is_none() {
                found(&row.cell_id, row.depth, &|k| {
                    k.tail = Some(row.value.log10())
                });
            }
        })?;
    }
    let search = dir.join(file::SEARCH);
    if search.is_file() {
        for_each_row(&search, |row: SearchRow| {
            let log10 = row.max_abs_diff.log10();
            found(&row.cell_id, row.depth, &|k| {
                k.search = Some(k.search.map_or(log10, |s| worst(s, log10)));
            });
        })?;
    }
    Ok(known)
}

fn nothing() -> Known {
    Known {
        measured: f64::NEG_INFINITY,
        ..Known::default()
    }
}
