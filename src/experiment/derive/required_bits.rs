//! The smallest bit width at which a bound, or the measurement, stays under a tolerance.

use std::collections::BTreeMap;

use super::ledger::Known;
use super::theorems::Theorems;
use crate::bounds::a_priori::halvings;
use crate::bounds::probabilistic::selection;
use crate::experiment::error::SweepError;
use crate::experiment::subject::model::LoadedModel;
use crate::facts;
use crate::quant::Granularity;
use crate::quant::uniform::Scheme;
use crate::results::schema::RequiredBitsRow;

/// The cells of a sweep that differ in their bit width alone.
pub struct Family<'a> {
    /// The model.
    pub model: &'a LoadedModel,
    /// `Quantizer::name`
    pub quantizer: &'a str,
    /// Scales per tensor or per channel.
    pub granularity: Granularity,
    /// Activations are rounded too, to grids that no width of the weights makes finer.
    pub rounds_activations: bool,
    /// By bit width: what is known at each depth.
    pub swept: BTreeMap<u32, &'a BTreeMap<u32, Known>>,
}

/// The required bits of every quantity of a family, at every depth.
pub fn required_bits(
    family: &Family<'_>,
    tolerances: &[f64],
    theorems: &mut Theorems,
) -> Result<Vec<RequiredBitsRow>, SweepError> {
    let Some((&widest, last)) = family.swept.last_key_value() else {
        return Ok(Vec::new());
    };
    let narrowest = family.swept.keys().next().copied().unwrap_or(widest);
    let network = &family.model.network;
    let ids: Vec<&str> = last
        .values()
        .next()
        .map(|k| k.bounds.iter().map(|(id, _)| id.as_str()).collect())
        .unwrap_or_default();
    let theorem = scheme(family.quantizer).map(|scheme| {
        let ids: Vec<&str> = ids
            .iter()
            .copied()
            .filter(|id| facts::of(id).is_some_and(|f| f.is_monotone))
            .collect();
        theorems.of(family.model, scheme, family.granularity, &ids, tolerances)
    });
    let theorem = theorem.transpose().map_err(|source| SweepError::Bound {
        model: network.name.clone(),
        source,
    })?;
    let nodes: BTreeMap<u32, usize> = network
        .taps()
        .iter()
        .map(|t| (t.depth as u32, t.node))
        .collect();

    let mut rows = Vec::new();
    for (t, &tolerance) in tolerances.iter().enumerate() {
        for (&depth, at_widest) in last.iter() {
            let mut push = |quantity: &str, bits: Option<u32>, kind: &str| {
                rows.push(RequiredBitsRow {
                    model: network.name.clone(),
                    quantizer: family.quantizer.to_string(),
                    granularity: family.granularity.name().to_string(),
                    quantity: quantity.to_string(),
                    tolerance,
                    depth,
                    layer: network.name_at(depth as usize).to_string(),
                    bits,
                    kind: kind.to_string(),
                    swept_from: narrowest,
                    swept_to: widest,
                });
            };
            let read_off = |value: &dyn Fn(&Known) -> Option<f64>| {
                let series = family.swept.iter().rev();
                let at = |k: &BTreeMap<u32, Known>| k.get(&depth).and_then(value);
                let values = series.map(|(&bits, k)| (bits, at(k)));
                selection::narrowest(values, tolerance.log10())
            };
            push("measured", read_off(&|k| Some(k.measured)), "measured");
            if last.values().any(|k| k.tail.is_some()) {
                push("tail", read_off(&|k| k.tail), "tail");
            }
            if last.values().any(|k| k.sample.is_some()) {
                push(facts::SAMPLE.id, read_off(&|k| k.sample), "sample");
            }
            for &id in &ids {
                let of = |k: &Known| k.bounds.iter().find(|(known, _)| known == id).map(|b| b.1);
                if let Some(bits) = read_off(&of) {
                    push(id, Some(bits), "bound");
                    continue;
                }
                let proven = theorem.as_ref().and_then(|by_id| {
                    let series = by_id.get(id)?;
                    nodes.get(&depth).and_then(|&node| series[t][node])
                });
                let halves = facts::is_plain(id) && !family.rounds_activations;
                let bound = of(at_widest).filter(|b| b.is_finite() && halves);
                match (proven, bound) {
                    (Some(bits), _) => push(id, Some(bits), "a-priori"),
                    (None, Some(bound)) => {
                        push(id, Some(halvings(widest, bound, tolerance)), "extrapolated");
                    }
                    (None, None) => push(id, None, "bound"),
                }
            }
        }
    }
    Ok(rows)
}

/// The grid of a quantizer that rounds to nearest over the whole range of the weights: the ones that the theorem
/// speaks of.
fn scheme(quantizer: &str) -> Option<Scheme> {
    match quantizer {
        "uniform-symmetric" => Some(Scheme::Symmetric),
        "uniform-asymmetric" => Some(Scheme::Asymmetric),
        _ => None,
    }
}
