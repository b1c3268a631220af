//! The sum over layers that the closed form of Houache et al. 2025 is an upper bound of: each layer's own product
//! of norms, with coarser and finer readings of what quantization changes in a layer.

use super::houache2025::{absorbed, gains, is_biased, magnitudes};
use super::scaled::Up;
use super::{Bound, BoundError, LayerFacts, Series, Setting};
use crate::facts::{self, BoundFacts};

/// What is known of a layer's perturbation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Perturbation {
    /// The largest change of any parameter of the network.
    NetworkEps,
    /// The largest change of any parameter of the layer.
    LayerEps,
    /// `||dW||` and `||db||`.
    Norms,
}

/// `sum_l G_l delta_l`: layers changed one at a time, each change amplified by what follows it.
pub(super) struct LayerSum {
    /// How `delta_l` is bounded.
    pub perturbation: Perturbation,
}

impl Bound for LayerSum {
    fn facts(&self) -> &'static BoundFacts {
        match self.perturbation {
            Perturbation::NetworkEps => &facts::LAYER_SUM_EPS,
            Perturbation::LayerEps => &facts::LAYER_SUM_LAYER_EPS,
            Perturbation::Norms => &facts::LAYER_SUM,
        }
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let nodes = &setting.network().nodes;
        let biased = is_biased(setting);
        // One network before the layer that changes, the other behind it: which one is which, is free.
        let magnitudes = [0, 1].map(|before| {
            let norms = (0..nodes.len()).map(|i| Some(absorbed(setting.layer(i)?, biased)[before]));
            magnitudes(setting, &norms.collect::<Vec<_>>())
        });
        let at = |target: usize, before: usize| {
            let norm = |l: &LayerFacts| match before {
                0 => l.norm_quantized,
                _ => l.norm,
            };
            let gains = gains(setting, nodes, target, norm);
            let seen = || {
                let layers = nodes[..=target].iter().enumerate();
                layers.filter_map(|(i, node)| {
                    let magnitude = magnitudes[before][node.inputs[0]];
                    Some((setting.layer(i)?, gains[i + 1]?, magnitude))
                })
            };
            let eps = seen().fold(0.0, |e: f64, (l, ..)| e.max(l.parameter_difference));
            seen()
                .map(|(layer, gain, magnitude)| gain * self.change(layer, magnitude, biased, eps))
                .sum::<Up>()
        };
        let at = |target| at(target, 0).min(at(target, 1));
        Ok(Series::of(
            (0..nodes.len()).map(|i| setting.in_own_units(i, at(i))),
        ))
    }
}

impl LayerSum {
    /// A bound on `||dW x + db||` for `||(x, 1)|| <= magnitude`.
    fn change(&self, layer: &LayerFacts, magnitude: Up, biased: bool, eps: f64) -> Up {
        let parameters = Up::new((layer.fan_in + usize::from(biased)) as f64);
        match self.perturbation {
            Perturbation::NetworkEps => parameters * Up::new(eps) * magnitude,
            Perturbation::LayerEps => parameters * Up::new(layer.parameter_difference) * magnitude,
            Perturbation::Norms => {
                Up::new(layer.norm_difference) * magnitude + Up::new(layer.bias_difference)
            }
        }
    }
}
