//! Numbers of a cell from night to night, and whether the last ones are worse than the nights before them.

use std::collections::{BTreeMap, HashMap};

use super::night::Night;
use crate::results::schema::CellSummary;

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "what", content = "bound")]
pub enum Followed {
    /// Verdicts that are not that a bound holds.
    Verdicts,
    /// `log10` of a bound at the last layer.
    Bound(String),
    /// Largest discrepancy at the last layer.
    Discrepancy,
    /// Images per second.
    Speed,
}

impl Followed {
    /// Its name in tables.
    pub fn name(&self) -> &str {
        match self {
            Self::Verdicts => "verdicts",
            Self::Bound(id) => id,
            Self::Discrepancy => "measured",
            Self::Speed => "images/s",
        }
    }
}

/// A number with the least and the most that it may be for all that one run says.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Point {
    /// The number.
    pub value: f64,
    /// Not below this.
    pub least: f64,
    /// Nor above this.
    pub most: f64,
}

impl Point {
    /// The largest of some images says nothing of another night's.
    fn of_any_draw(self, drawn: bool) -> Self {
        if !drawn {
            return self;
        }
        Self {
            least: f64::NEG_INFINITY,
            most: f64::INFINITY,
            ..self
        }
    }
}

/// One number of one cell from night to night.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Series {
    /// `model quantizer 8 bit per-channel`.
    pub cell: String,
    /// Which number.
    #[serde(flatten)]
    pub what: Followed,
    /// Per night; `None` where that night has none.
    pub points: Vec<Option<Point>>,
    /// So many of the last numbers are each worse than every number of the baseline before them.
    pub worse: usize,
    /// The last number is another one than that before it.
    pub moved: bool,
}

impl Series {
    /// The last number.
    pub fn last(&self) -> Option<Point> {
        self.points.iter().rev().flatten().next().copied()
    }
}

/// Every number of every cell; baselines are the `window` numbers before those that they are held against.
pub fn follow(nights: &[Night], window: usize) -> Vec<Series> {
    let mut order: Vec<(String, Followed)> = Vec::new();
    let mut found: HashMap<(String, Followed), BTreeMap<usize, Point>> = HashMap::new();
    for (i, night) in nights.iter().enumerate() {
        for cell in &night.cells {
            for (what, point) in points(cell, night) {
                let key = (cell.key.title(), what);
                let points = found.entry(key.clone()).or_insert_with(|| {
                    order.push(key);
                    BTreeMap::new()
                });
                points.insert(i, point);
            }
        }
    }
    let series = order.into_iter().map(|key| {
        let points = &found[&key];
        let all = (0..nights.len()).map(|i| points.get(&i).copied()).collect();
        let numbers: Vec<Point> = points.values().copied().collect();
        let moved = match numbers.as_slice() {
            [.., a, b] => a.value.to_bits() != b.value.to_bits() && b.least.is_finite(),
            _ => false,
        };
        Series {
            worse: worse(&key.1, &numbers, window),
            moved,
            points: all,
            cell: key.0,
            what: key.1,
        }
    });
    series.collect()
}

fn points(cell: &CellSummary, night: &Night) -> Vec<(Followed, Point)> {
    let exact = |value: f64| Point {
        value,
        least: value,
        most: value,
    };
    let bad = cell.verdicts.iter().map(|v| v.counts);
    let bad: u64 = bad.map(|c| c.violated + c.invalid).sum();
    let last = &cell.final_layer;
    let room = last.fp_allowance.unwrap_or(0.0).max(0.0);
    let mut found = vec![
        (Followed::Verdicts, exact(bad as f64)),
        (
            Followed::Discrepancy,
            Point {
                value: last.max_abs_diff,
                least: last.max_abs_diff - room,
                most: last.max_abs_diff + room,
            }
            .of_any_draw(night.drawn),
        ),
    ];
    let bounds = last.bounds.iter();
    found.extend(bounds.map(|b| (Followed::Bound(b.bound.clone()), exact(b.log10_bound))));
    if let Some(pace) = cell.pace.filter(|_| night.is_complete()) {
        let point = Point {
            value: pace.median,
            least: pace.least,
            most: pace.most,
        };
        found.push((Followed::Speed, point));
    }
    found
}

/// Whether a number is beyond everything that the other may be, on the bad side.
fn is_worse(what: &Followed, number: Point, before: Point) -> bool {
    if number.value.is_nan() || before.value.is_nan() {
        return number.value.is_nan() && !before.value.is_nan();
    }
    match what {
        Followed::Speed => number.most < before.least,
        _ => number.least > before.most,
    }
}

/// The most numbers at the end of which each is worse than all of the `window` before the first of them.
fn worse(what: &Followed, numbers: &[Point], window: usize) -> usize {
    let all = |run: usize| {
        let (before, last) = numbers.split_at(numbers.len() - run);
        let baseline = &before[before.len().saturating_sub(window)..];
        last.iter()
            .all(|&n| baseline.iter().all(|&b| is_worse(what, n, b)))
    };
    let runs = 1..numbers.len();
    runs.rev().find(|&run| all(run)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(values: &[f64]) -> Vec<Point> {
        let point = |&value: &f64| Point {
            value,
            least: value,
            most: value,
        };
        values.iter().map(point).collect()
    }

    #[test]
    fn a_regression_is_as_old_as_the_first_number_beyond_its_baseline() {
        let bound = Followed::Bound("best".into());
        let worse = |values: &[f64]| super::worse(&bound, &exact(values), 7);
        assert_eq!(worse(&[1.0, 1.0, 1.0]), 0);
        assert_eq!(worse(&[1.0, 1.0, 2.0]), 1);
        assert_eq!(worse(&[1.0, 2.0, 2.0, 2.0]), 3);
        assert_eq!(worse(&[1.0, 2.0, 2.0, 1.0]), 0);
        assert_eq!(worse(&[3.0, 1.0, 2.0, 2.0]), 0, "it was there before");
        assert_eq!(worse(&[1.0]), 0);
        assert_eq!(worse(&[1.0, f64::NAN]), 1);
        // A baseline that rolls on forgets.
        assert_eq!(
            super::worse(&bound, &exact(&[3.0, 1.0, 1.0, 2.0, 2.0]), 2),
            2
        );
    }

    #[test]
    fn noise_is_no_regression() {
        let point = |value: f64, width: f64| Point {
            value,
            least: value - width,
            most: value + width,
        };
        let speed = [point(10.0, 1.0), point(10.5, 1.0), point(9.0, 0.5)];
        assert_eq!(worse(&Followed::Speed, &speed, 7), 0);
        let slow = [point(10.0, 1.0), point(10.5, 1.0), point(7.0, 0.5)];
        assert_eq!(worse(&Followed::Speed, &slow, 7), 1);
        let drift = [point(1.0, 0.1), point(1.15, 0.1)];
        assert_eq!(worse(&Followed::Discrepancy, &drift, 7), 0);
    }
}
