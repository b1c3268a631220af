//! Norms of one matrix layer after another, in the reference network, in the quantized one, and of the change, each found once.

use std::cell::LazyCell;
use std::sync::Arc;

use super::composite::only_reader;
use super::dense::Dense;
use super::layer_norms::rescaled;
use super::product_norm::{ByWeights, Root, Roots, Tall, Three};
use super::reference_norms::ProductKey;
use super::scaled::Up;
use super::setting::{Setting, Weights, parameter};
use super::spectral_norm::spectral_norm;

pub(super) const REFERENCE: usize = 0;
pub(super) const QUANTIZED: usize = 1;
pub(super) const CHANGE: usize = 2;

/// The depthwise gains that every reader of value `index + 1` applies first: those of its one reader.
pub(super) fn gains_after<'s>(setting: &'s Setting<'_>, index: usize) -> Option<&'s [Vec<Up>; 2]> {
    let reader = only_reader(setting.network(), index)?;
    setting.spectral(reader)?.gains.as_ref()
}

/// The gains that follow `layer` in one network over the largest of them, and that one; `None` where all are zero. They
/// are rounded up, which only raises norms.
pub(super) fn gain_weights(
    setting: &Setting,
    layer: usize,
    network: usize,
) -> Option<(Vec<f64>, Up)> {
    let gains = &gains_after(setting, layer)?[network];
    let largest = gains.iter().copied().fold(Up::ZERO, Up::max);
    let over = |g: &Up| g.over(largest).to_f64();
    (!largest.is_zero()).then(|| (gains.iter().map(over).collect(), largest))
}

/// `W`, `W'` and `W' - W` of a matrix layer, each entry with at most three roundings.
pub(super) fn matrices(setting: &Setting, layer: usize) -> [Dense; 3] {
    [Weights::Reference, Weights::Quantized, Weights::Difference]
        .map(|which| matrix(setting, layer, which))
}

fn matrix(setting: &Setting, layer: usize, which: Weights) -> Dense {
    let Some((a, b)) = setting.affine(layer) else {
        return Dense::zeros(0, 0);
    };
    let scales = setting.rescaling().of_layer(setting.network(), layer);
    Dense {
        rows: a.out,
        cols: a.in_per_group,
        data: rescaled(&a, scales, |i| parameter(a.weight[i], b.weight[i], which)),
    }
}

/// What products of the reference network with an inner layer share.
pub(super) fn reference_root(setting: &Setting, inner: usize) -> Arc<Option<Root>> {
    setting.reference().roots().get(inner, || {
        Arc::new(Root::of(&matrix(setting, inner, Weights::Reference)))
    })
}

/// What products of the quantized network, and of the change, with an inner layer share.
pub(super) fn roots(setting: &Setting, inner: usize) -> Arc<Roots> {
    setting.roots().get(inner, || {
        let [m, q, d] = matrices(setting, inner);
        let change = (!d.is_zero()).then(|| {
            // A power of two moved between the factors of the second part changes nothing, and brings both to one size.
            let shift = (m.largest() / d.largest()).log2().round();
            let factor = 2f64.powi(shift.clamp(-400.0, 400.0) as i32);
            let mut stacked = d.clone();
            stacked.data.extend(m.data.iter().map(|x| x / factor));
            stacked.rows += m.rows;
            (Root::of(&stacked), factor)
        });
        Arc::new(Roots {
            quantized: Root::of(&q),
            change,
        })
    })
}

/// Bounds on the norms of `W M`, `W' M'` and `W' M' - W M` for layer `layer` over `inner`, or of the layer alone.
pub(super) fn product_norms(setting: &Setting, (layer, inner): ProductKey) -> ByWeights {
    setting.products().get((layer, inner), || {
        let weights = [REFERENCE, QUANTIZED]
            .map(|network| gain_weights(setting, layer, network).map(|(weights, _)| weights));
        let outer = matrices(setting, layer);
        match inner {
            None => alone(setting, layer, &outer, &weights),
            Some(inner) => after(setting, layer, &outer, inner, &weights),
        }
    })
}

/// Bounds on the norms of single layers, of `W`, `W'` and `W' - W`.
fn of_layer(setting: &Setting, layer: usize) -> Three {
    let norms = setting.spectral(layer);
    norms.map_or([Up::ZERO; 3], |n| [n.reference, n.quantized, n.difference])
}

type RowWeights = [Option<Vec<f64>>; 2];

fn alone(setting: &Setting, layer: usize, outer: &[Dense; 3], weights: &RowWeights) -> ByWeights {
    let norm = |which: usize, network: usize| {
        let Some(weights) = &weights[network] else {
            return Up::ZERO;
        };
        let compute = || {
            let mut scaled = outer[which].clone();
            scaled.scale_rows(weights);
            spectral_norm(&scaled)
        };
        match (which, network) {
            // Shared by all quantized forms.
            (REFERENCE, REFERENCE) => {
                let both = || [Up::ZERO, compute()];
                setting.reference().products().get((layer, None), both)[1]
            }
            _ => compute(),
        }
    };
    ByWeights {
        plain: of_layer(setting, layer),
        weighted: [REFERENCE, QUANTIZED]
            .map(|network| [REFERENCE, QUANTIZED, CHANGE].map(|which| norm(which, network))),
    }
}

fn after(
    setting: &Setting,
    layer: usize,
    [m, q, d]: &[Dense; 3],
    inner: usize,
    weights: &RowWeights,
) -> ByWeights {
    let apart = product_norms(setting, (layer, None));
    let norms = of_layer(setting, inner);
    let own = roots(setting, inner);
    let reference = LazyCell::new(|| reference_root(setting, inner));
    let tall = LazyCell::new(|| (**reference).as_ref().map(|root| Tall::new(m, root)));
    let other = own.quantized.as_ref().map(|root| Tall::new(q, root));
    // W' M' - W M = [W' dW] [dM; M], or dW M where M' is M.
    let change = match &own.change {
        Some((root, factor)) => root.as_ref().map(|root| {
            let mut scaled = d.clone();
            scaled.data.iter_mut().for_each(|x| *x *= factor);
            Tall::new(&Dense::beside(&[q, &scaled]), root)
        }),
        None => (**reference).as_ref().map(|root| Tall::new(d, root)),
    };
    // Never above the product of the norms, which is all that is known where a factorization broke down.
    let norm = |tall: Option<&Tall>, weights: Option<&[f64]>, apart: Up| match tall {
        Some(tall) if !apart.is_zero() => tall.norm(weights).min(apart),
        _ => apart,
    };
    let three = |reference: &dyn Fn(Up) -> Up, weights: Option<&[f64]>, apart: Three| {
        let sum = apart[QUANTIZED] * norms[CHANGE] + apart[CHANGE] * norms[REFERENCE];
        [
            reference(apart[REFERENCE] * norms[REFERENCE]),
            norm(other.as_ref(), weights, apart[QUANTIZED] * norms[QUANTIZED]),
            norm(change.as_ref(), weights, sum),
        ]
    };
    let of_reference = |weights: Option<&[f64]>, apart: Up| norm((*tall).as_ref(), weights, apart);
    // Shared by all quantized forms, unless rows are weighted by the gains of `W'`.
    let shared = setting
        .reference()
        .products()
        .get((layer, Some(inner)), || {
            let both = |three: Three| three[REFERENCE] * norms[REFERENCE];
            let weighted = weights[REFERENCE].as_deref();
            [
                of_reference(None, both(apart.plain)),
                weighted.map_or(Up::ZERO, |w| {
                    of_reference(Some(w), both(apart.weighted[REFERENCE]))
                }),
            ]
        });
    ByWeights {
        plain: three(&|_| shared[0], None, apart.plain),
        weighted: [REFERENCE, QUANTIZED].map(|network| {
            let Some(weights) = weights[network].as_deref() else {
                return [Up::ZERO; 3];
            };
            let reference = |apart| match network {
                REFERENCE => shared[1],
                _ => of_reference(Some(weights), apart),
            };
            three(&reference, Some(weights), apart.weighted[network])
        }),
    }
}
