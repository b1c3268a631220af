//! The sum over layers that the closed form of Houache et al. 2025 is an upper bound of: each layer's own product
//! of norms, with coarser and finer readings of what quantization changes in a layer.

use super::houache2025::{absorbed_norm, gains, is_biased, magnitudes};
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

    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
        let nodes = &setting.network().nodes;
        let biased = is_biased(setting);
        let norms: Vec<Option<Up>> = (0..nodes.len())
            .map(|i| setting.layer(i).map(|l| absorbed_norm(l, biased)))
            .collect();
        let magnitudes = magnitudes(setting, &norms);
        let at = |target: usize| {
            let gains = gains(setting, nodes, target);
            let seen = || {
                let before = nodes[..=target].iter().enumerate();
                before.filter_map(|(i, node)| {
                    Some((setting.layer(i)?, gains[i + 1]?, magnitudes[node.inputs[0]]))
                })
            };
            let eps = seen().fold(0.0, |e: f64, (l, ..)| e.max(l.parameter_difference));
            seen()
                .map(|(layer, gain, magnitude)| gain * self.change(layer, magnitude, biased, eps))
                .sum::<Up>()
        };
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
