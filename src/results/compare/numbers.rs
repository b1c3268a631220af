//! Bounds, discrepancies and classes of the cells that both runs have, read cell by cell, a bounded number at a time.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::change::{Change, Said, What};
use super::run::{Pair, Run};
use crate::results::schema::{BoundRow, CellSummary, MeasurementRow, OutputRow, file};
use crate::results::store::{StoreError, for_each_row};

/// Discrepancies of one run in memory at a time.
const AT_ONCE: u64 = 30_000_000;
/// The output's place among the depths of an image: behind all layers.
const OUTPUT: u32 = u32::MAX;

/// What the numbers of the pairs say.
pub struct Numbers {
    /// Of each pair.
    pub changes: Vec<Vec<Change>>,
    pub within_allowance: u64,
}

/// The numbers of one cell of one run.
#[derive(Default)]
struct Cell {
    bounds: BTreeMap<(String, u32), f64>,
    discrepancies: BTreeMap<(String, u32), f64>,
    /// By depth.
    allowances: BTreeMap<u32, f64>,
    /// The largest logit of the quantized network by image.
    classes: BTreeMap<String, u32>,
}

impl Numbers {
    pub fn read(base: &Run, new: &Run, pairs: &[Pair<'_>]) -> Result<Self, StoreError> {
        let mut found = Self {
            changes: Vec::with_capacity(pairs.len()),
            within_allowance: 0,
        };
        let mut rest = pairs;
        while !rest.is_empty() {
            let mut numbers = 0;
            let fits = rest.iter().take_while(|p| {
                numbers += p.base.images * (u64::from(p.base.final_layer.depth) + 1);
                numbers <= AT_ONCE
            });
            let (some, others) = rest.split_at(fits.count().max(1));
            rest = others;
            let before = cells(&base.dir, some.iter().map(|p| p.base))?;
            let after = cells(&new.dir, some.iter().map(|p| p.new))?;
            for ((pair, was), is) in some.iter().zip(&before).zip(&after) {
                let mut changes = bounds(pair, was, is);
                changes.extend(found.discrepancies(pair, was, is));
                changes.extend(classes(pair, was, is));
                found.changes.push(changes);
            }
        }
        Ok(found)
    }

    fn discrepancies(&mut self, pair: &Pair<'_>, was: &Cell, is: &Cell) -> Option<Change> {
        let mut worst: Option<(f64, &(String, u32), f64, f64)> = None;
        let mut places = 0;
        let places_of_both = was.discrepancies.keys().chain(is.discrepancies.keys());
        let both: std::collections::BTreeSet<_> = places_of_both.collect();
        for place in both {
            let at = |cell: &Cell| cell.discrepancies.get(place).copied().unwrap_or(f64::NAN);
            let (a, b) = (at(was), at(is));
            let missing =
                was.discrepancies.contains_key(place) != is.discrepancies.contains_key(place);
            if missing && pair.redrawn {
                continue;
            }
            if (a == b || (a.is_nan() && b.is_nan())) && !missing {
                continue;
            }
            // Each run is that far from what f64 arithmetic finds.
            let allowance = was.allowance(place.1) + is.allowance(place.1);
            let excess = (a - b).abs() - allowance;
            if excess <= 0.0 {
                self.within_allowance += 1;
                continue;
            }
            places += 1;
            let excess = if excess.is_nan() {
                f64::INFINITY
            } else {
                excess
            };
            if worst.as_ref().is_none_or(|w| excess > w.0) {
                worst = Some((excess, place, a, b));
            }
        }
        let (_, (image, depth), a, b) = worst?;
        Some(Change {
            image: Some(image.clone()),
            depth: (*depth != OUTPUT).then_some(*depth),
            places,
            ..Change::from_to(
                What::Discrepancy,
                pair.new,
                Said::Number(a),
                Said::Number(b),
            )
        })
    }
}

impl Cell {
    /// The recorded allowance of a depth; that of the last layer for the output, 0 where none is recorded.
    fn allowance(&self, depth: u32) -> f64 {
        let known = self.allowances.range(..=depth).next_back();
        let known = known.filter(|(d, _)| depth == OUTPUT || **d == depth);
        known.map_or(0.0, |(_, a)| *a).max(0.0)
    }
}

/// One change per bound whose value is another one at some depth.
fn bounds(pair: &Pair<'_>, was: &Cell, is: &Cell) -> Vec<Change> {
    let mut changes: Vec<(f64, Change)> = Vec::new();
    let absent = || Said::Words("absent".into());
    let mut places: Vec<&(String, u32)> = was.bounds.keys().chain(is.bounds.keys()).collect();
    places.sort();
    places.dedup();
    let has = |cell: &Cell, id: &str| cell.bounds.keys().any(|(known, _)| known == id);
    for place in places {
        let (a, b) = (was.bounds.get(place), is.bounds.get(place));
        let same = match (a, b) {
            (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
            _ => false,
        };
        // A bound that one run lacks altogether is told as such.
        if same || !has(was, &place.0) || !has(is, &place.0) {
            continue;
        }
        let moved = match (a, b) {
            (Some(a), Some(b)) if (a - b).is_finite() => (a - b).abs(),
            _ => f64::INFINITY,
        };
        let said = |x: Option<&f64>| x.map_or_else(absent, |x| Said::Number(*x));
        let change = Change {
            bound: Some(place.0.clone()),
            depth: Some(place.1),
            ..Change::from_to(What::Bound, pair.new, said(a), said(b))
        };
        match changes.last_mut().filter(|(_, c)| c.bound == change.bound) {
            Some((most, known)) => {
                let places = known.places + 1;
                if moved > *most {
                    (*most, *known) = (moved, change);
                }
                known.places = places;
            }
            None => changes.push((moved, change)),
        }
    }
    changes.into_iter().map(|(_, change)| change).collect()
}

/// Images whose largest logit of the quantized network is another one.
fn classes(pair: &Pair<'_>, was: &Cell, is: &Cell) -> Option<Change> {
    let both = was.classes.iter();
    let moved: Vec<(&String, u32, u32)> = both
        .filter_map(|(image, &a)| Some((image, a, *is.classes.get(image)?)))
        .filter(|(_, a, b)| a != b)
        .collect();
    let (image, a, b) = moved.first()?;
    let class = |c: u32| Said::Words(format!("class {c}"));
    Some(Change {
        image: Some(image.to_string()),
        places: moved.len() as u64,
        ..Change::from_to(What::Top1, pair.new, class(*a), class(*b))
    })
}

/// The numbers of some cells of a run.
fn cells<'a>(
    dir: &Path,
    wanted: impl Iterator<Item = &'a CellSummary>,
) -> Result<Vec<Cell>, StoreError> {
    let wanted = wanted.enumerate();
    let index: HashMap<&str, usize> = wanted.map(|(i, c)| (c.key.cell_id.as_str(), i)).collect();
    let mut cells: Vec<Cell> = index.keys().map(|_| Cell::default()).collect();
    for_each_row(&dir.join(file::BOUNDS), |row: BoundRow| {
        if let Some(&i) = index.get(row.cell_id.as_str()) {
            let place = (row.bound, row.depth);
            cells[i].bounds.insert(place, row.log10_bound);
        }
    })?;
    for_each_row(&dir.join(file::MEASUREMENTS), |row: MeasurementRow| {
        if let Some(&i) = index.get(row.cell_id.as_str()) {
            if let Some(allowance) = row.fp_allowance {
                let known = cells[i].allowances.entry(row.depth).or_insert(0.0);
                *known = known.max(allowance);
            }
            let place = (row.image, row.depth);
            cells[i].discrepancies.insert(place, row.max_abs_diff);
        }
    })?;
    for_each_row(&dir.join(file::OUTPUTS), |row: OutputRow| {
        if let Some(&i) = index.get(row.cell_id.as_str()) {
            if let Some(class) = row.top1_quant {
                cells[i].classes.insert(row.image.clone(), class);
            }
            let place = (row.image, OUTPUT);
            cells[i].discrepancies.insert(place, row.max_abs_diff);
        }
    })?;
    Ok(cells)
}
