//! Residual expansion (REx, Yvinec et al. 2022, arXiv 2203.14645): a weight as a sum of quantized residuals.
//!
//! `R_1 = W`, `Q_k = round(R_k / lambda_k)`, `R_{k+1} = R_k - lambda_k Q_k`, `W^(K) = sum of lambda_k Q_k`, with one
//! `lambda_k = max|R_k| / (2^(b-1) - 1)` per output channel. After K orders every weight satisfies
//! `|w - w^(K)| <= (lambda_1 / 2) (1 / (2 (2^(b-1) - 1)))^(K-1)`.

use super::uniform::{Grid, Scheme, check_finite};
use super::{QuantError, QuantizedLayer, QuantizedNetwork, Quantizer, Term};
use crate::network::{Affine, Network};

/// Residual expansion of some orders.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rex {
    /// Bit width of every order, 2..=16.
    pub bits: u32,
    /// Number of orders K, 1..=4; 1 is plain per-channel rounding.
    pub orders: u32,
    /// Fraction of the output channels that each order beyond the first keeps, those with the largest
    /// `||R_k||_2`; 1 keeps all.
    pub budget: f64,
}

impl Rex {
    /// Checks the settings.
    pub fn new(bits: u32, orders: u32, budget: f64) -> Result<Self, QuantError> {
        super::check_bits(bits)?;
        if !(1..=4).contains(&orders) {
            return Err(QuantError::Option {
                option: "orders",
                value: orders.to_string(),
                allowed: "from 1 to 4 orders",
            });
        }
        if !(0.0..=1.0).contains(&budget) {
            return Err(QuantError::Option {
                option: "budget",
                value: budget.to_string(),
                allowed: "a fraction of the channels, 0 to 1",
            });
        }
        Ok(Self {
            bits,
            orders,
            budget,
        })
    }

    /// Quantizes one channel's residual in place.
    fn order(&self, residual: &mut [f64], term: &mut Term) {
        let m = residual.iter().fold(0.0f64, |m, r| m.max(r.abs()));
        let grid = Grid::new(Scheme::Symmetric, self.bits, (-m, m));
        for r in residual {
            let code = grid.code(*r, f64::round_ties_even);
            *r -= grid.value(code);
            term.codes.push(code);
        }
        term.scale.push(grid.scale);
        term.zero_point.push(grid.zero);
    }

    fn layer(&self, node: usize, affine: &Affine<'_>) -> QuantizedLayer {
        let row = affine.fan_in().max(1);
        let mut residual: Vec<f64> = affine.weight.iter().map(|&w| f64::from(w)).collect();
        let terms = (0..self.orders).map(|k| {
            let kept = match k {
                0 => vec![true; affine.out],
                _ => self.kept(&residual, row),
            };
            let mut term = Term::default();
            for (residual, kept) in residual.chunks_mut(row).zip(kept) {
                if kept {
                    self.order(residual, &mut term)
                } else {
                    // A channel left out holds zeros.
                    self.order(&mut vec![0.0; row], &mut term)
                }
            }
            term
        });
        let mut terms: Vec<Term> = terms.collect();
        let first = terms.remove(0);
        QuantizedLayer {
            node,
            bits: self.bits,
            codes: first.codes,
            scale: first.scale,
            zero_point: first.zero_point,
            residuals: terms,
            ..QuantizedLayer::default()
        }
    }

    /// The channels that fit the budget, largest residual first; the earlier channel on ties.
    fn kept(&self, residual: &[f64], row: usize) -> Vec<bool> {
        let norms: Vec<f64> = residual
            .chunks(row)
            .map(|r| r.iter().map(|x| x * x).sum())
            .collect();
        let mut order: Vec<usize> = (0..norms.len()).collect();
        order.sort_by(|&a, &b| norms[b].total_cmp(&norms[a]));
        let mut kept = vec![false; norms.len()];
        let room = (self.budget * norms.len() as f64).floor() as usize;
        for &o in &order[..room] {
            kept[o] = true;
        }
        kept
    }
}

impl Quantizer for Rex {
    fn name(&self) -> String {
        match self.budget {
            1.0 => format!("rex-k{}", self.orders),
            g => format!("rex-k{}-g{g}", self.orders),
        }
    }

    fn quantize(&self, network: &Network) -> Result<QuantizedNetwork, QuantError> {
        let layers = network.layers().filter_map(|node| {
            let affine = network.nodes[node].affine()?;
            Some(check_finite(network, self.layer(node, &affine)))
        });
        Ok(QuantizedNetwork {
            layers: layers.collect::<Result<_, _>>()?,
            ..QuantizedNetwork::default()
        })
    }
}
