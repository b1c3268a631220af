//! The judge: measurements and bounds in, verdicts out. It reads no file and knows no engine; where a measurement stands
//! above a bound of real arithmetic, it asks a function for an evaluation of that image with more digits. docs/bounds.md,
//! "When a bound is violated".

use std::collections::{BTreeMap, HashMap};

use crate::engine::Exact;
use crate::facts::Arithmetic;
use crate::results::schema::{BoundRow, Finding, SampleBoundRow, VerdictCounts, VerdictsOf};
use crate::results::verdict::{Verdict, judge, settle, slack};

/// How many digits an evaluation carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Digits {
    /// Of f64.
    F64,
    /// Twice as many.
    Twice,
}

/// One cell under judgement: a verdict for every bound at every depth, over all images.
#[derive(Debug, Default)]
pub struct Judge {
    /// An evaluation with more digits rounds activations otherwise: it proves that a bound is violated, and clears none.
    pub rounds_activations: bool,
    places: Vec<Place>,
    /// Bound and depth to place.
    known: HashMap<(String, u32), usize>,
    /// Depth to the bounds on all images there.
    on_all: HashMap<u32, Vec<(usize, f64)>>,
}

/// One bound at one depth.
#[derive(Debug)]
struct Place {
    bound: String,
    depth: u32,
    layer: String,
    arithmetic: Arithmetic,
    log10_bound: f64,
    /// The most severe of the images that need no f64.
    worst: Option<Case>,
    /// The smallest slack of those.
    slack: Option<f64>,
    /// The images that do.
    above: Vec<Case>,
}

/// One image beside one bound.
#[derive(Clone, Debug)]
struct Case {
    verdict: Verdict,
    image: String,
    measured: f64,
    exact: Option<Exact>,
    log10_bound: f64,
}

/// What a cell's judgement leaves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Per bound, in the order in which they were stated.
    pub verdicts: Vec<VerdictsOf>,
    /// What does not hold, likewise.
    pub findings: Vec<(Verdict, Finding)>,
}

impl Judge {
    /// States a bound on every image.
    pub fn state(&mut self, row: &BoundRow, arithmetic: Arithmetic) {
        let place = self.place(
            &row.bound,
            row.depth,
            &row.layer,
            arithmetic,
            row.log10_bound,
        );
        self.on_all
            .entry(row.depth)
            .or_default()
            .push((place, row.log10_bound));
    }

    /// Holds a measurement at `depth` against every bound on all images there.
    pub fn see(&mut self, depth: u32, image: &str, measured: f64) {
        for &(place, log10_bound) in self.on_all.get(&depth).into_iter().flatten() {
            self.places[place].see(image, measured, log10_bound);
        }
    }

    /// Holds the measurement of an image against a bound on that image.
    pub fn see_own(&mut self, row: &SampleBoundRow, arithmetic: Arithmetic) {
        let place = self.place(
            &row.bound,
            row.depth,
            &row.layer,
            arithmetic,
            row.log10_bound,
        );
        self.places[place].see(&row.image, row.max_abs_diff, row.log10_bound);
    }

    fn place(
        &mut self,
        bound: &str,
        depth: u32,
        layer: &str,
        arithmetic: Arithmetic,
        log10_bound: f64,
    ) -> usize {
        let key = (bound.to_string(), depth);
        *self.known.entry(key).or_insert_with(|| {
            self.places.push(Place {
                bound: bound.to_string(),
                depth,
                layer: layer.to_string(),
                arithmetic,
                log10_bound,
                worst: None,
                slack: None,
                above: Vec::new(),
            });
            self.places.len() - 1
        })
    }

    /// The verdicts. `exact` evaluates an image up to a depth: by depth, from 1. Every image that stands above a bound of
    /// real arithmetic is evaluated once in f64, and once more with twice the digits where that leaves it undecided.
    ///
    /// # Errors
    /// Those of `exact`.
    pub fn conclude<E>(
        mut self,
        cell_id: &str,
        mut exact: impl FnMut(&str, u32, Digits) -> Result<Vec<Exact>, E>,
    ) -> Result<Judged, E> {
        for digits in [Digits::F64, Digits::Twice] {
            let mut deepest: BTreeMap<&str, u32> = BTreeMap::new();
            for place in &self.places {
                for case in place.above.iter().filter(|c| c.is_open(digits)) {
                    let depth = deepest.entry(&case.image).or_default();
                    *depth = place.depth.max(*depth);
                }
            }
            let mut evaluated = HashMap::new();
            for (image, depth) in deepest {
                evaluated.insert(image.to_string(), exact(image, depth, digits)?);
            }
            for place in &mut self.places {
                let depth = place.depth.saturating_sub(1) as usize;
                for case in place.above.iter_mut().filter(|c| c.is_open(digits)) {
                    let at = evaluated.get(&case.image).and_then(|e| e.get(depth));
                    case.settle(at.copied().unwrap_or(Exact::UNKNOWN));
                    if self.rounds_activations && case.verdict == Verdict::Holds {
                        case.verdict = Verdict::Undecided;
                    }
                }
            }
        }
        let mut judged = Judged::default();
        for mut place in self.places {
            let (counts, finding) = place.conclude(cell_id);
            judged.findings.extend(finding);
            let bound = |v: &&mut VerdictsOf| v.bound == place.bound;
            match judged.verdicts.iter_mut().find(bound) {
                Some(verdicts) => verdicts.counts += counts,
                None => judged.verdicts.push(VerdictsOf {
                    bound: place.bound.clone(),
                    counts,
                }),
            }
        }
        Ok(judged)
    }
}

impl Place {
    fn see(&mut self, image: &str, measured: f64, log10_bound: f64) {
        let case = Case {
            verdict: judge(measured, log10_bound),
            image: String::new(),
            measured,
            exact: None,
            log10_bound,
        };
        if case.verdict == Verdict::Violated && self.arithmetic == Arithmetic::Real {
            self.above.push(Case {
                image: image.to_string(),
                ..case
            });
        } else {
            self.take(case, image);
        }
    }

    /// Keeps the most severe case and the smallest slack.
    fn take(&mut self, mut case: Case, image: &str) {
        if case.verdict != Verdict::Invalid {
            let slack = slack(case.value(), case.log10_bound);
            self.slack = self.slack.into_iter().chain(slack).reduce(f64::min);
        }
        if self.worst.as_ref().is_none_or(|w| case.outranks(image, w)) {
            case.image = image.to_string();
            self.worst = Some(case);
        }
    }

    fn conclude(&mut self, cell_id: &str) -> (VerdictCounts, Option<(Verdict, Finding)>) {
        let above = std::mem::take(&mut self.above);
        let disputed = above.len() as u64;
        for mut case in above {
            let image = std::mem::take(&mut case.image);
            self.take(case, &image);
        }
        // A bound beside which nothing was measured holds nowhere.
        let worst = self.worst.take().unwrap_or(Case {
            verdict: Verdict::Invalid,
            image: String::new(),
            measured: f64::NAN,
            exact: None,
            log10_bound: self.log10_bound,
        });
        let verdict = worst.verdict;
        let counts = VerdictCounts {
            cleared: u64::from(verdict == Verdict::Holds && disputed > 0),
            ..VerdictCounts::of(verdict, self.slack)
        };
        let finding = (verdict != Verdict::Holds).then(|| {
            let finding = Finding {
                cell_id: cell_id.to_string(),
                bound: self.bound.clone(),
                depth: self.depth,
                layer: self.layer.clone(),
                image: worst.image,
                measured: worst.measured,
                f64_measured: worst.exact.map(|e| e.max_abs_diff),
                f64_at_least: worst.exact.map(|e| e.at_least),
                images_in_f64: disputed,
                log10_bound: worst.log10_bound,
            };
            (verdict, finding)
        });
        (counts, finding)
    }
}

impl Case {
    /// True when an evaluation with so many digits is needed.
    fn is_open(&self, digits: Digits) -> bool {
        match digits {
            Digits::F64 => self.exact.is_none(),
            Digits::Twice => self.verdict == Verdict::Undecided,
        }
    }

    fn settle(&mut self, exact: Exact) {
        self.verdict = settle(exact.max_abs_diff, exact.at_least, self.log10_bound);
        self.exact = Some(exact);
    }

    /// What the verdict rests on.
    fn value(&self) -> f64 {
        self.exact.map_or(self.measured, |e| e.max_abs_diff)
    }

    /// Decades above the bound.
    fn excess(&self) -> f64 {
        let value = self.value();
        match value.log10() - self.log10_bound {
            _ if value == 0.0 => f64::NEG_INFINITY,
            excess if excess.is_nan() => f64::INFINITY,
            excess => excess,
        }
    }

    /// True when this case, of `image`, comes before another: more severe, then nearer to a violation or further beyond,
    /// then by name. The order of images does not matter.
    fn outranks(&self, image: &str, other: &Self) -> bool {
        let order = self.verdict.cmp(&other.verdict);
        let order = order.then(self.excess().total_cmp(&other.excess()));
        order.then_with(|| other.image.as_str().cmp(image)).is_gt()
    }
}
