//! Bits that theorems ask for: the width from which on every grid stays under a tolerance, whatever the weights' codes.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{Ball, BoundError, Domain};
use crate::network::Network;
use crate::quant::Granularity;
use crate::quant::uniform::{self, Scheme};

/// From this width on, each further bit halves an a-priori bound, which is what the theorem then states.
const LAST_EVALUATED: u32 = 32;
/// The narrowest grid there is.
const FIRST: u32 = 2;

/// `bits` and as many more as it takes to bring a bound under the tolerance when each of them halves it.
pub fn halvings(bits: u32, log10_bound: f64, tolerance: f64) -> u32 {
    let more = (log10_bound - tolerance.log10()) / std::f64::consts::LOG10_2;
    bits + more.ceil().max(0.0) as u32
}

/// Bits by tolerance and node; `None` where no finite bound is known.
pub type BitsNeeded = Vec<Vec<Option<u32>>>;

/// For each bound and tolerance, the smallest width from which on every grid of that many bits over the range of the
/// weights, rounding to nearest, stays under the tolerance at a node for every input of the domain
/// (docs/bounds.md, required bits).
pub fn a_priori<'i>(
    network: &Network,
    domain: &Domain,
    scheme: Scheme,
    granularity: Granularity,
    ids: &[&'i str],
    tolerances: &[f64],
) -> Result<BTreeMap<&'i str, BitsNeeded>, BoundError> {
    let series = |bits: u32, ids: &[&'i str]| {
        let radii = uniform::radii(network, scheme, granularity, bits);
        let ball = Ball::new(network, domain, &radii)?;
        let ids = ids.par_iter();
        ids.map(|&id| Ok((id, ball.evaluate(id)?.log10)))
            .collect::<Result<Vec<_>, BoundError>>()
    };
    let first = |bound: f64, tolerance: f64| {
        let finite = bound < f64::INFINITY;
        finite.then(|| halvings(LAST_EVALUATED, bound, tolerance))
    };
    let mut needed: BTreeMap<&'i str, BitsNeeded> = BTreeMap::new();
    for (id, bounds) in series(LAST_EVALUATED, ids)? {
        let by_node = |&t: &f64| bounds.iter().map(|&b| first(b, t)).collect();
        needed.insert(id, tolerances.iter().map(by_node).collect());
    }
    for bits in (FIRST..LAST_EVALUATED).rev() {
        // Narrower grids have larger bounds: a node that this width is too few for needs no more looking at.
        let open = |id: &&&str| needed[**id].iter().flatten().any(|&n| n == Some(bits + 1));
        let open: Vec<&'i str> = ids.iter().filter(open).copied().collect();
        if open.is_empty() {
            break;
        }
        for (id, bounds) in series(bits, &open)? {
            let rows = needed.get_mut(id).into_iter().flatten();
            for (row, tolerance) in rows.zip(tolerances) {
                for (n, bound) in row.iter_mut().zip(&bounds) {
                    if *n == Some(bits + 1) && *bound <= tolerance.log10() {
                        *n = Some(bits);
                    }
                }
            }
        }
    }
    Ok(needed)
}
