//! Which layer hurts: the layers of a cell by what quantizing each of them alone does to the network's output.

use std::collections::BTreeMap;

use super::schema::IsolatedRow;

/// One layer of one cell, over the images.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerEffect {
    /// 1-based count of the layer.
    pub depth: u32,
    /// Node name.
    pub layer: String,
    /// Largest `||y' - y||_inf` of the network's output with this layer alone quantized; NaN when one is.
    pub at_output: f64,
    /// Its share of the sum of that over all layers; NaN where the sum is no positive number.
    pub share: f64,
    /// Largest `||y' - y||_inf` of the layer's own output; NaN when one is.
    pub at_layer: f64,
    /// Mean of `KL(softmax(y) || softmax(y'))` in nats; `None` when the output is no vector of logits.
    pub kl: Option<f64>,
}

/// The layers of one cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The cell.
    pub cell_id: String,
    /// What is no number first, then from the largest effect at the output to the smallest; by depth where two are equal.
    pub layers: Vec<LayerEffect>,
}

#[derive(Default)]
struct Sums {
    layer: String,
    at_output: f64,
    at_layer: f64,
    kl: f64,
    kl_rows: u32,
}

/// Rows of the isolated study as they are read, reduced to rankings.
#[derive(Default)]
pub struct Collector {
    /// In order of appearance.
    order: Vec<String>,
    cells: BTreeMap<String, BTreeMap<u32, Sums>>,
}

impl Collector {
    /// Takes one row.
    pub fn see(&mut self, row: &IsolatedRow) {
        if !self.cells.contains_key(&row.cell_id) {
            self.order.push(row.cell_id.clone());
        }
        let layers = self.cells.entry(row.cell_id.clone()).or_default();
        let sums = layers.entry(row.depth).or_default();
        sums.layer.clone_from(&row.layer);
        sums.at_output = worst(sums.at_output, row.output_max_abs_diff);
        sums.at_layer = worst(sums.at_layer, row.max_abs_diff);
        if let Some(kl) = row.kl {
            sums.kl += kl;
            sums.kl_rows += 1;
        }
    }

    /// One ranking for each cell, in order of appearance.
    pub fn rankings(mut self) -> Vec<Ranking> {
        let cells = self.order.iter().filter_map(|id| {
            let layers = self.cells.remove(id)?;
            Some(Ranking {
                cell_id: id.clone(),
                layers: rank(layers),
            })
        });
        cells.collect()
    }
}

fn rank(layers: BTreeMap<u32, Sums>) -> Vec<LayerEffect> {
    let sum: f64 = layers.values().map(|l| l.at_output).sum();
    let mut ranked: Vec<LayerEffect> = layers
        .into_iter()
        .map(|(depth, sums)| LayerEffect {
            depth,
            share: sums.at_output / sum,
            layer: sums.layer,
            at_output: sums.at_output,
            at_layer: sums.at_layer,
            kl: (sums.kl_rows > 0).then(|| sums.kl / f64::from(sums.kl_rows)),
        })
        .collect();
    // By magnitude, NaN above everything whatever its sign.
    let place = |x: f64| if x.is_nan() { f64::INFINITY } else { x };
    ranked.sort_by(|a, b| {
        (b.at_output.is_nan().cmp(&a.at_output.is_nan()))
            .then(place(b.at_output).total_cmp(&place(a.at_output)))
            .then(a.depth.cmp(&b.depth))
    });
    ranked
}

/// The larger; NaN stays.
fn worst(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

impl Ranking {
    /// The answer in a sentence: `cell` is how the cell is called.
    pub fn sentence(&self, cell: &str) -> String {
        let Some(first) = self.layers.first() else {
            return format!("{cell}: no layer was quantized alone");
        };
        let broken = self.layers.iter().filter(|l| l.at_output.is_nan()).count();
        if broken > 0 {
            return format!(
                "{cell}: {} (depth {}) alone makes the output NaN or infinite, as do {} other layers",
                first.layer,
                first.depth,
                broken - 1
            );
        }
        if first.at_output == 0.0 {
            return format!("{cell}: no layer alone changes the output");
        }
        let half = self.until(0.5);
        format!(
            "{cell}: {} (depth {}) hurts most, {:.0} % of the sum of single layers; {half} of {} layers make up half of it",
            first.layer,
            first.depth,
            100.0 * first.share,
            self.layers.len()
        )
    }

    /// How many of the first layers add up to this share.
    fn until(&self, share: f64) -> usize {
        let mut sum = 0.0;
        let reached = |l: &LayerEffect| {
            sum += l.share;
            sum >= share
        };
        let place = self.layers.iter().position(reached);
        place.map_or(self.layers.len(), |p| p + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(image: &str, depth: u32, at_output: f64) -> IsolatedRow {
        IsolatedRow {
            cell_id: "c".into(),
            model: "m".into(),
            quantizer: "q".into(),
            bits: 8,
            granularity: "per-tensor".into(),
            image: image.into(),
            depth,
            layer: format!("conv{depth}"),
            max_abs_diff: 2.0 * at_output,
            l2_diff: 0.0,
            mean_abs_diff: 0.0,
            sqnr_db: None,
            output_max_abs_diff: at_output,
            output_l2_diff: 0.0,
            kl: Some(at_output / 10.0),
        }
    }

    fn ranking(rows: &[IsolatedRow]) -> Ranking {
        let mut collector = Collector::default();
        rows.iter().for_each(|r| collector.see(r));
        collector.rankings().remove(0)
    }

    #[test]
    fn the_largest_over_the_images_ranks_and_shares_add_up() {
        let of = ranking(&[
            row("a", 1, 1.0),
            row("a", 2, 5.0),
            row("a", 3, 2.0),
            row("b", 1, 3.0),
            row("b", 2, 1.0),
            row("b", 3, 0.5),
        ]);
        let depths: Vec<u32> = of.layers.iter().map(|l| l.depth).collect();
        assert_eq!(depths, [2, 1, 3]);
        assert_eq!(of.layers[0].share, 0.5);
        assert_eq!(of.layers.iter().map(|l| l.share).sum::<f64>(), 1.0);
        assert_eq!(of.layers[0].at_layer, 10.0);
        assert!((of.layers[0].kl.unwrap() - 0.3).abs() < 1e-15);
        let said = of.sentence("x");
        assert_eq!(
            said,
            "x: conv2 (depth 2) hurts most, 50 % of the sum of single layers; 1 of 3 layers make up half of it"
        );
    }

    #[test]
    fn what_is_no_number_comes_first_and_is_said() {
        let of = ranking(&[row("a", 1, 1.0), row("a", 2, -f64::NAN), row("b", 2, 1.0)]);
        assert_eq!(of.layers[0].depth, 2);
        assert!(of.sentence("x").contains("conv2 (depth 2) alone makes"));
        let of = ranking(&[row("a", 1, 0.0), row("a", 2, 0.0)]);
        assert!(
            of.sentence("x")
                .ends_with("no layer alone changes the output")
        );
    }
}
