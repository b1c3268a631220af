//! Two questions that people come with, answered in sentences: which bit width do I need, and is it good enough.

use super::headline::Tightest;
use super::schema::{CellSummary, Summary};

/// Cells that differ in their bit width alone, narrowest first.
struct Family<'a> {
    cells: Vec<&'a CellSummary>,
}

/// Probability, over the draw of the images, that what is said of other images is true.
const CONFIDENCE: f64 = 0.95;

/// The answers, two sentences for each model; one where its output is no vector of logits.
pub fn answers(summary: &Summary) -> Vec<String> {
    let mut models: Vec<&str> = Vec::new();
    for cell in &summary.cells {
        if !models.contains(&cell.key.model.as_str()) {
            models.push(&cell.key.model);
        }
    }
    models
        .into_iter()
        .flat_map(|model| {
            let cells = summary.cells.iter().filter(|c| c.key.model == model);
            of_model(model, &cells.collect::<Vec<_>>())
        })
        .collect()
}

fn of_model(model: &str, cells: &[&CellSummary]) -> Vec<String> {
    let families = families(cells);
    // The fewest bits that keep every class; where none do, the most classes kept.
    let keeping = families.iter().filter_map(|f| Some((f, f.enough()?)));
    let keeping = keeping.min_by(|(_, a), (_, b)| {
        let by_bits = a.key.bits.cmp(&b.key.bits);
        by_bits.then(a.output.max_abs_diff.total_cmp(&b.output.max_abs_diff))
    });
    if let Some((family, cell)) = keeping {
        return vec![
            enough(family, cell, cells.len()),
            good_enough(cell, cell.images),
        ];
    }
    let best = cells
        .iter()
        .filter_map(|c| Some((c, c.output.top1_agree?)))
        .max_by(|(a, kept_a), (b, kept_b)| {
            let by_kept = kept_a.cmp(kept_b);
            by_kept.then(b.output.max_abs_diff.total_cmp(&a.output.max_abs_diff))
        });
    let Some((cell, kept)) = best else {
        return vec![format!(
            "which bit width: the output of {model} is no vector of logits, so that no class decides; see the measured \
             bits in required_bits.parquet for the difference that you can bear"
        )];
    };
    let most = format!("{} keeps {kept} of {}", cell.key.title(), cell.images);
    vec![
        match cells.len() {
            1 => format!("which bit width: {most}, and no other was tried"),
            n => format!("which bit width: none of {model}'s {n} cells keeps every class; {most}"),
        },
        good_enough(cell, kept),
    ]
}

fn families<'a>(cells: &[&'a CellSummary]) -> Vec<Family<'a>> {
    let same = |a: &CellSummary, b: &CellSummary| {
        a.key.quantizer == b.key.quantizer
            && a.key.granularity == b.key.granularity
            && a.activation_bits == b.activation_bits
    };
    let mut families: Vec<Family<'a>> = Vec::new();
    for cell in cells {
        match families.iter_mut().find(|f| same(f.cells[0], cell)) {
            Some(family) => family.cells.push(cell),
            None => families.push(Family { cells: vec![cell] }),
        }
    }
    for family in &mut families {
        family.cells.sort_by_key(|c| c.key.bits);
    }
    families
}

/// All images keep their class.
fn keeps_all(cell: &CellSummary) -> bool {
    cell.images > 0 && cell.output.top1_agree == Some(cell.images)
}

impl<'a> Family<'a> {
    /// The narrowest cell that keeps every class, as do all wider ones.
    fn enough(&self) -> Option<&'a CellSummary> {
        let widest = self.cells.iter().rev();
        widest.take_while(|c| keeps_all(c)).last().copied()
    }
}

/// `cells`: how many one may choose from.
fn enough(family: &Family<'_>, cell: &CellSummary, cells: usize) -> String {
    let key = &cell.key;
    let narrower = family.cells.iter().rev().find(|c| c.key.bits < key.bits);
    let fewer = match narrower {
        Some(c) => format!(
            "; {} bits keep {} of {}",
            c.key.bits,
            c.output.top1_agree.unwrap_or(0),
            c.images
        ),
        None => "; fewer were not tried".to_string(),
    };
    // With every image kept in each of the cells, at once for all of them: (1 - rate)^n is at least a cell's share of
    // what the confidence leaves open.
    let open = (1.0 - CONFIDENCE) / cells as f64;
    let rate = 1.0 - open.powf(1.0 / cell.images as f64);
    format!(
        "which bit width: {} keeps every class of {} images{fewer}; that leaves open that up to {:.1} % of other images \
         drawn like these change ({:.0} % confidence)",
        cell.key.title(),
        cell.images,
        100.0 * rate,
        100.0 * CONFIDENCE
    )
}

fn good_enough(cell: &CellSummary, kept: u64) -> String {
    let out = &cell.output;
    let mut text = format!(
        "is it good enough: at {} bits the output moves by at most {} on these images, {kept} of {} keep their class",
        cell.key.bits,
        short(out.max_abs_diff),
        cell.images
    );
    if let (Some(quantized), Some(reference)) = (out.top1_quant_right, out.top1_ref_right) {
        text += &format!(
            " ({quantized} of {} right, {reference} in full precision)",
            out.labelled
        );
    }
    let Some(margin) = out.median_margin else {
        return text;
    };
    if let Some(safe) = out.margin_safe {
        text += &format!(
            "; the largest logit leads by {} (median), and by more than twice its image's move on {safe} of {}",
            short(margin),
            cell.images
        );
    }
    if let Some(tightest) = Tightest::of(cell) {
        let log10 = tightest.looseness + out.max_abs_diff.log10();
        let promised = log10 < (margin / 2.0).log10();
        text += &format!(
            "; guaranteed for every input: at most 10^{log10:.1} ({}), {}",
            tightest.bound,
            if promised {
                "less than half that lead"
            } else {
                "which promises no class"
            }
        );
    }
    text
}

fn short(x: f64) -> String {
    if x == 0.0 || (1e-2..1e4).contains(&x) {
        format!("{x:.3}")
    } else {
        format!("{x:.2e}")
    }
}
