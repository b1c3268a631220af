//! The closed form `max(D, 1) r_mean^(L-1) sum_l N_(l-1) eps` of Houache, Aujol and Traonmilin 2025, in the
//! readings that can be proved on a graph.

use super::scaled::Up;
use super::{Bound, BoundError, LayerFacts, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::network::{Node, Op};

/// What `r_mean` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mean {
    /// `r_mean^(L-1)` is the largest product of the other layers' norms; on a chain the geometric mean.
    Geometric,
    /// `r_mean = sum_j r_j / (L-1)`, and never less than the geometric reading.
    Arithmetic,
}

/// One reading of the closed form.
pub(super) struct Houache2025 {
    /// Counts the `p^2 c / groups` inputs of a convolution's output value instead of the flattened map.
    pub conv: bool,
    /// The reading of `r_mean`.
    pub mean: Mean,
}

impl Houache2025 {
    /// `N_(l-1)`, one more where biases are absorbed.
    fn inputs(&self, layer: &LayerFacts, biased: bool) -> Up {
        let n = if self.conv {
            layer.fan_in
        } else {
            layer.inputs
        };
        Up::new((n + usize::from(biased)) as f64)
    }
}

impl Bound for Houache2025 {
    fn facts(&self) -> &'static BoundFacts {
        match (self.conv, self.mean) {
            (false, Mean::Geometric) => &facts::HOUACHE2025,
            (false, Mean::Arithmetic) => &facts::HOUACHE2025_ARITHMETIC,
            (true, Mean::Geometric) => &facts::HOUACHE2025_CONV,
            (true, Mean::Arithmetic) => &facts::HOUACHE2025_CONV_ARITHMETIC,
        }
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let biased = is_biased(setting);
        let norms: Vec<Option<Up>> = (0..setting.network().nodes.len())
            .map(|i| {
                let both = |l| absorbed(l, biased).into_iter().fold(Up::ZERO, Up::max);
                setting.layer(i).map(both)
            })
            .collect();
        let magnitudes = magnitudes(setting, &norms);
        let depths = depths(setting);
        let nodes = 0..setting.network().nodes.len();
        Ok(Series::of(nodes.map(|target| {
            let bound = self.at_node(
                setting,
                &norms,
                &magnitudes,
                depths[target + 1],
                target,
                biased,
            );
            setting.in_own_units(target, bound)
        })))
    }
}

/// True when some layer of either network has a bias.
pub(super) fn is_biased(setting: &Setting) -> bool {
    let mut layers = (0..setting.network().nodes.len()).filter_map(|i| setting.layer(i));
    layers.any(|l| l.bias.max(l.bias_quantized) > 0.0)
}

/// The norm of `[W b; 0 1]`, or of `W` in a network without biases, in `R` and in `R'`.
pub(super) fn absorbed(layer: &LayerFacts, biased: bool) -> [Up; 2] {
    if biased {
        layer.augmented.map(|norm| Up::new(norm.max(1.0)))
    } else {
        [layer.norm, layer.norm_quantized].map(Up::new)
    }
}

/// Bounds on `||(x, 1)||` of every value: layers multiply by their absorbed norms, sums add.
pub(super) fn magnitudes(setting: &Setting, norms: &[Option<Up>]) -> Vec<Up> {
    let mut magnitudes = vec![input_magnitude(setting)];
    for (i, node) in setting.network().nodes.iter().enumerate() {
        let inputs = node.inputs.iter().map(|&v| magnitudes[v]);
        let value = match (&norms[i], &node.op) {
            (Some(norm), _) => *norm * magnitudes[node.inputs[0]],
            (None, Op::Add) => inputs.sum(),
            (None, _) => inputs.fold(Up::ZERO, Up::max),
        };
        magnitudes.push(value);
    }
    magnitudes
}

fn input_magnitude(setting: &Setting) -> Up {
    Up::new(setting.domain().magnitude().max(1.0))
}

/// Parametric layers on the longest path to every value.
fn depths(setting: &Setting) -> Vec<usize> {
    let mut depths = vec![0];
    for node in &setting.network().nodes {
        let before = node.inputs.iter().map(|&v| depths[v]).max().unwrap_or(0);
        depths.push(before + usize::from(node.is_layer()));
    }
    depths
}

impl Houache2025 {
    fn at_node(
        &self,
        setting: &Setting,
        norms: &[Option<Up>],
        magnitudes: &[Up],
        depth: usize,
        target: usize,
        biased: bool,
    ) -> Up {
        let nodes = &setting.network().nodes;
        let gains = gains(setting, nodes, target, |l| l.norm.max(l.norm_quantized));
        let (mut widths, mut mean, mut norm_sum) = (Up::ZERO, Up::ZERO, Up::ZERO);
        let mut eps = 0.0f64;
        for (i, node) in nodes[..=target].iter().enumerate() {
            let (Some(layer), Some(norm), Some(gain)) = (setting.layer(i), norms[i], gains[i + 1])
            else {
                continue;
            };
            widths = widths + self.inputs(layer, biased);
            mean = mean.max(gain * magnitudes[node.inputs[0]]);
            norm_sum = norm_sum + norm;
            eps = eps.max(layer.parameter_difference);
        }
        // `r_mean^(L-1) max(D, 1)`
        let mut growth = mean;
        if self.mean == Mean::Arithmetic && depth > 0 {
            let power = match depth - 1 {
                0 => Up::ONE,
                n => norm_sum.over(Up::new(n as f64)).powi(n),
            };
            growth = growth.max(power * input_magnitude(setting));
        }
        growth * widths * Up::new(eps)
    }
}

/// The gain from every value to the output of node `target`: layers multiply by their `norm`, branches sum.
/// `None` for values the target does not depend on.
pub(super) fn gains(
    setting: &Setting,
    nodes: &[Node],
    target: usize,
    norm: impl Fn(&LayerFacts) -> f64,
) -> Vec<Option<Up>> {
    let mut gains: Vec<Option<Up>> = vec![None; nodes.len() + 1];
    gains[target + 1] = Some(Up::ONE);
    for i in (0..=target).rev() {
        let Some(gain) = gains[i + 1] else { continue };
        let through = match setting.layer(i) {
            Some(layer) => gain * Up::new(norm(layer)),
            None => gain,
        };
        for &v in &nodes[i].inputs {
            gains[v] = Some(gains[v].unwrap_or(Up::ZERO) + through);
        }
    }
    gains
}
