//! What `quantbound bounds --rescale` adds: every bound at the output by parametrization.

use std::io::Write;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::table;
use crate::bounds::{NormProducts, Rescale, Series};

/// Names of parametrizations on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RescaleName {
    /// As the checkpoint has them
    None,
    /// Cross-layer equalization, residual sums included
    Equalize,
    /// The best rescaling found, for every bound and depth
    Optimal,
}

impl From<RescaleName> for Rescale {
    fn from(name: RescaleName) -> Self {
        match name {
            RescaleName::None => Rescale::None,
            RescaleName::Equalize => Rescale::Equalize,
            RescaleName::Optimal => Rescale::Optimal,
        }
    }
}

type Ladders = [Vec<(String, Series)>];

/// Name and `log10` as given, equalized, at the best: every bound at the output, and the product of norms.
fn rows(ladders: &Ladders, products: &NormProducts) -> Vec<(String, [f64; 3])> {
    let last = |ladder: &[(String, Series)], i: usize| {
        let at_nodes = &ladder[i].1.log10;
        at_nodes.last().copied().unwrap_or(f64::NEG_INFINITY)
    };
    let mut rows: Vec<_> = ladders[0]
        .iter()
        .enumerate()
        .map(|(i, (id, _))| (id.clone(), [0, 1, 2].map(|r| last(&ladders[r], i))))
        .collect();
    rows.push((
        "product of layer norms".to_string(),
        [products.none, products.equalized, products.optimal],
    ));
    rows
}

/// One object per bound, and the path norm.
pub fn as_json(ladders: &Ladders, products: &NormProducts) -> Value {
    let rows: Vec<Value> = rows(ladders, products)
        .into_iter()
        .map(|(id, [none, equalize, optimal])| {
            json!({"bound": id, "none": table::json(none), "equalize": table::json(equalize), "optimal": table::json(optimal)})
        })
        .collect();
    json!({"output_log10": rows, "path_norm_log10": table::json(products.path_norm)})
}

/// The same as a table.
pub fn print(
    out: &mut impl Write,
    ladders: &Ladders,
    products: &NormProducts,
) -> std::io::Result<()> {
    let head = [
        "bound at the output",
        "none",
        "equalize",
        "optimal",
        "parametrization costs",
    ];
    let rows: Vec<Vec<String>> = rows(ladders, products)
        .into_iter()
        .map(|(id, values)| {
            let cost = if values[0] == values[2] {
                "0".to_string()
            } else {
                format!("{:.2} decades", values[0] - values[2])
            };
            let mut row = vec![id];
            row.extend(values.map(table::log10));
            row.push(cost);
            row
        })
        .collect();
    writeln!(out)?;
    table::print(out, &head, &rows)?;
    writeln!(
        out,
        "path norm over channels, which no rescaling brings the product of layer norms below: {}",
        table::log10(products.path_norm)
    )
}
