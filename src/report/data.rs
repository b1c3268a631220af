//! A run's tables, reduced to what the page shows: one pass over each file.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::ReportError;
use crate::results::answers::answers;
use crate::results::headline::Headline;
use crate::results::schema::{
    BoundRow, CellSummary, MeasurementRow, OutputRow, Summary, TailRow, file,
};
use crate::results::store::{for_each_row, read_json, read_summary};

/// A finished run.
pub struct Run {
    /// Without its cells, which are `cells`.
    pub summary: Summary,
    /// Of the whole summary.
    pub headline: Headline,
    pub answers: Vec<String>,
    pub provenance: serde_json::Value,
    /// In the summary's order.
    pub cells: Vec<Cell>,
    /// Statements for most images; none without `tails` in the plan.
    pub tails: Vec<TailRow>,
}

/// One cell's rows, reduced over the images.
pub struct Cell {
    pub summary: CellSummary,
    /// By depth.
    pub depths: BTreeMap<u32, Depth>,
    /// `(id, depth -> log10)`, in the order of the table.
    pub bounds: Vec<(String, BTreeMap<u32, f64>)>,
    /// The tail of all depths at once, by depth; empty without `tails` in the plan.
    pub tail: BTreeMap<u32, f64>,
    pub output: Output,
}

/// The measurements at one depth.
#[derive(Default)]
pub struct Depth {
    pub layer: String,
    pub measured: Spread,
    /// Largest floating-point allowance over the images evaluated in f64.
    pub fp_allowance: Option<f64>,
}

/// `||y' - y||_inf` over images.
#[derive(Default)]
pub struct Spread {
    /// Until [`Spread::settle`] reduces them.
    finite: Vec<f64>,
    count: usize,
    max: Option<f64>,
    median: Option<f64>,
    /// Rows that are NaN or infinite.
    pub invalid: usize,
}

impl Spread {
    fn push(&mut self, value: f64) {
        if value.is_finite() {
            self.finite.push(value);
        } else {
            self.invalid += 1;
        }
    }

    /// Keeps what the page shows of all values: those of thousands of images in hundreds of cells fit in no memory.
    fn settle(&mut self) {
        let mut sorted = std::mem::take(&mut self.finite);
        sorted.sort_unstable_by(f64::total_cmp);
        self.count = sorted.len();
        self.max = sorted.last().copied();
        self.median = sorted.get(sorted.len().saturating_sub(1) / 2).copied();
    }

    /// Rows.
    pub fn count(&self) -> usize {
        self.count + self.invalid
    }

    /// The largest finite value.
    pub fn max(&self) -> Option<f64> {
        self.max
    }

    /// The lower median of the finite values.
    pub fn median(&self) -> Option<f64> {
        self.median
    }

    /// The largest value, if every row is finite: the only one a bound may be held against.
    pub fn sound_max(&self) -> Option<f64> {
        if self.invalid == 0 { self.max() } else { None }
    }
}

/// The output rows of a cell.
#[derive(Default)]
pub struct Output {
    pub measured: Spread,
    /// Images with logits, and those whose largest stays.
    pub logits: u64,
    pub agree: u64,
    /// Labelled images with logits, and those that each network gets right.
    pub labelled: u64,
    pub ref_right: u64,
    pub quant_right: u64,
}

/// `part / whole` in percent.
pub fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}

impl Cell {
    /// The output's depth: the last one.
    pub fn last_depth(&self) -> u32 {
        let bounds = self.bounds.iter().filter_map(|(_, at)| at.keys().last());
        bounds.chain(self.depths.keys()).copied().max().unwrap_or(0)
    }

    /// `log10` of bound `id` at `depth`.
    pub fn bound(&self, id: &str, depth: u32) -> Option<f64> {
        let (_, at) = self.bounds.iter().find(|(known, _)| known == id)?;
        at.get(&depth).copied()
    }

    /// Rows, over all depths and the output, that are NaN or infinite.
    pub fn invalid_rows(&self) -> usize {
        let depths = self.depths.values().map(|d| d.measured.invalid);
        depths.sum::<usize>() + self.output.measured.invalid
    }

    /// `model quantizer 8 bit per-channel`.
    pub fn title(&self) -> String {
        self.summary.key.title()
    }
}

impl Run {
    /// Reads every file of the run.
    pub fn read(dir: &Path) -> Result<Self, ReportError> {
        let mut summary = read_summary(dir)?;
        let provenance = read_json(&dir.join(file::PROVENANCE))?;
        let (headline, answers) = (Headline::of(&summary), answers(&summary));
        // Moved, not copied: of thousands of cells they are the most of what a page takes.
        let cells = std::mem::take(&mut summary.cells);
        let mut cells: Vec<Cell> = cells.into_iter().map(Cell::new).collect();
        let index: HashMap<String, usize> = cells
            .iter()
            .enumerate()
            .map(|(i, c)| (c.summary.key.cell_id.clone(), i))
            .collect();
        let mut strangers = BTreeSet::new();
        let mut find = |id: &str| {
            let found = index.get(id).copied();
            if found.is_none() {
                strangers.insert(id.to_string());
            }
            found
        };

        // A cell's rows stand together, so that one cell's values are in memory at a time.
        let mut scattered = BTreeSet::new();
        let mut open = Open::default();
        for_each_row(&dir.join(file::MEASUREMENTS), |row: MeasurementRow| {
            if let (Some(i), "accumulated") = (find(&row.cell_id), row.mode.as_str()) {
                if !open.at(i, &mut cells, Cell::settle_depths) {
                    scattered.insert(file::MEASUREMENTS);
                }
                cells[i].measurement(row);
            }
        })?;
        open.end(&mut cells, Cell::settle_depths);
        let mut open = Open::default();
        for_each_row(&dir.join(file::OUTPUTS), |row: OutputRow| {
            if let Some(i) = find(&row.cell_id) {
                if !open.at(i, &mut cells, Cell::settle_output) {
                    scattered.insert(file::OUTPUTS);
                }
                cells[i].output(&row);
            }
        })?;
        open.end(&mut cells, Cell::settle_output);
        if let Some(name) = scattered.into_iter().next() {
            return Err(ReportError::Inconsistent {
                path: dir.join(name),
                problem: "the rows of a cell do not stand together; finish the sweep again".into(),
            });
        }
        for_each_row(&dir.join(file::BOUNDS), |row: BoundRow| {
            if let Some(i) = find(&row.cell_id) {
                cells[i].add_bound(row);
            }
        })?;
        let mut tails: Vec<TailRow> = Vec::new();
        if dir.join(file::TAILS).is_file() {
            for_each_row(&dir.join(file::TAILS), |row| tails.push(row))?;
        }
        for row in &tails {
            if let Some(i) = find(&row.cell_id)
                && row.is_curve()
            {
                cells[i].tail.insert(row.depth, row.value);
            }
        }
        if !strangers.is_empty() {
            let ids: Vec<String> = strangers.into_iter().take(5).collect();
            return Err(ReportError::Inconsistent {
                path: dir.join(file::SUMMARY),
                problem: format!(
                    "lists no cell {}, which the tables have; finish the sweep again",
                    ids.join(", ")
                ),
            });
        }
        for cell in &cells {
            for (empty, name) in [
                (cell.depths.is_empty(), file::MEASUREMENTS),
                (cell.output.measured.count() == 0, file::OUTPUTS),
            ] {
                if empty {
                    return Err(ReportError::Inconsistent {
                        path: dir.join(name),
                        problem: format!(
                            "has no row of cell {}, which {} lists; finish the sweep again",
                            cell.summary.key.cell_id,
                            file::SUMMARY
                        ),
                    });
                }
            }
        }
        Ok(Self {
            summary,
            headline,
            answers,
            provenance,
            cells,
            tails,
        })
    }

    /// Ids of all bounds, in the order of the table.
    pub fn bound_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        for (id, _) in self.cells.iter().flat_map(|c| &c.bounds) {
            if !ids.contains(id) {
                ids.push(id.clone());
            }
        }
        ids
    }
}

/// The cell whose rows are being read.
#[derive(Default)]
struct Open {
    now: Option<usize>,
    done: HashSet<usize>,
}

impl Open {
    /// A row of cell `i` comes; false where its rows had ended before.
    fn at(&mut self, i: usize, cells: &mut [Cell], settle: fn(&mut Cell)) -> bool {
        if self.now == Some(i) {
            return true;
        }
        self.end(cells, settle);
        self.now = Some(i);
        !self.done.contains(&i)
    }

    /// No more rows of the cell come.
    fn end(&mut self, cells: &mut [Cell], settle: fn(&mut Cell)) {
        if let Some(i) = self.now.take() {
            settle(&mut cells[i]);
            self.done.insert(i);
        }
    }
}

impl Cell {
    fn settle_depths(&mut self) {
        self.depths.values_mut().for_each(|d| d.measured.settle());
    }

    fn settle_output(&mut self) {
        self.output.measured.settle();
    }

    fn new(summary: CellSummary) -> Self {
        Self {
            summary,
            depths: BTreeMap::new(),
            bounds: Vec::new(),
            tail: BTreeMap::new(),
            output: Output::default(),
        }
    }

    fn measurement(&mut self, row: MeasurementRow) {
        let depth = self.depths.entry(row.depth).or_default();
        depth.layer = row.layer;
        depth.measured.push(row.max_abs_diff);
        if let Some(allowance) = row.fp_allowance.filter(|a| a.is_finite()) {
            depth.fp_allowance = Some(depth.fp_allowance.unwrap_or(0.0).max(allowance));
        }
    }

    fn output(&mut self, row: &OutputRow) {
        let out = &mut self.output;
        out.measured.push(row.max_abs_diff);
        if let (Some(reference), Some(quantized)) = (row.top1_ref, row.top1_quant) {
            out.logits += 1;
            out.agree += u64::from(reference == quantized);
            if let Some(label) = row.label {
                out.labelled += 1;
                out.ref_right += u64::from(reference == label);
                out.quant_right += u64::from(quantized == label);
            }
        }
    }

    fn add_bound(&mut self, row: BoundRow) {
        let place = match self.bounds.iter().position(|(id, _)| *id == row.bound) {
            Some(i) => i,
            None => {
                self.bounds.push((row.bound, BTreeMap::new()));
                self.bounds.len() - 1
            }
        };
        self.bounds[place].1.insert(row.depth, row.log10_bound);
    }
}
