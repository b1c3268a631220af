//! What per-sample bounds need on every engine: their numbers, which values can differ at all, how many roundings
//! a node makes, and how far an activation lets an error through.

use super::EngineError;
use crate::network::{Activation, Network, Node, Op};
use crate::tensor::Shape;

/// A bound on the discrepancy of one variant at one tap, for one image or a ball around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleBound {
    /// Upper bound on `max |y' - y|`, both as the engine computes them. Infinite: no finite bound was found;
    /// NaN: the reference leaves the range of the engine's numbers, so that nothing can be said.
    pub bound: f64,
    /// Elements whose own bound allows the whole range of their activation: there it says nothing of the weights.
    pub capped: u32,
    /// Elements of the map.
    pub count: u32,
}

impl SampleBound {
    /// Share of the elements whose bound says nothing, 0 to 1.
    pub fn capped_share(&self) -> f64 {
        f64::from(self.capped) / f64::from(self.count.max(1))
    }
}

/// Refuses a radius that is no distance.
pub fn check_radius(radius: f64) -> Result<(), EngineError> {
    if radius.is_finite() && radius >= 0.0 {
        Ok(())
    } else {
        Err(EngineError::Usage(format!(
            "a ball of radius {radius}: give a finite number of at least 0"
        )))
    }
}

/// Refuses a variant whose activations are quantized, on an engine whose bounds know nothing of that.
pub fn check_activations(quantized: bool) -> Result<(), EngineError> {
    if quantized {
        Err(EngineError::Usage(
            "this engine's bounds speak of quantized weights, and this variant quantizes activations too; \
             the processor's engines know bounds for it"
                .into(),
        ))
    } else {
        Ok(())
    }
}

/// How many half steps times the norm of what it reads no element of the network's output maps is moved by beyond its mean, all
/// at once with probability `1 - failure`, where the weights of nodes with `steps` are rounded at random.
///
/// # Errors
/// [`EngineError::Usage`] for what is no probability, and for steps of another network.
pub fn deviations(network: &Network, steps: &[Vec<f64>], failure: f64) -> Result<f64, EngineError> {
    if !(failure > 0.0 && failure < 1.0) {
        return Err(EngineError::Usage(format!(
            "a bound that fails with probability {failure}: give a number above 0 and below 1"
        )));
    }
    let channels = |node: &Node| node.affine().map_or(0, |a| a.out);
    let fits = |(node, own): (&Node, &Vec<f64>)| {
        own.is_empty() || (own.len() == channels(node) && own.iter().all(|s| s.is_finite()))
    };
    let nodes = || network.nodes.iter().zip(steps);
    if steps.len() != network.nodes.len() || !nodes().all(fits) {
        return Err(EngineError::Usage(
            "steps of random rounding: one list per node, empty or with a number for each output channel".into(),
        ));
    }
    let rolled = nodes().filter(|(_, own)| !own.is_empty());
    let elements: usize = rolled.map(|(node, _)| node.shape.len()).sum();
    let each = 2.0 * elements.max(1) as f64 / failure;
    Ok((0.5 * each.ln()).sqrt() * (1.0 + 1e-12))
}

/// Refuses networks with operations that neither bounds nor slopes are known for.
pub fn check_network(network: &Network) -> Result<(), EngineError> {
    match network.beyond_bounds() {
        None => Ok(()),
        Some((node, assumption)) => Err(EngineError::Unsupported {
            node: node.name.clone(),
            problem: format!(
                "{assumption}: the network can be measured, but not bounded or searched"
            ),
        }),
    }
}

/// Roundings on the way to one output value of a node, whatever the order of its sums.
pub fn roundings(node: &Node, input: Shape) -> usize {
    match &node.op {
        Op::Conv(_) | Op::Linear(_) => node.affine().map_or(0, |a| a.fan_in() + 2),
        // Sum, and a multiplication by a rounded reciprocal or a division of a few units.
        Op::GlobalAvgPool => input.pixels() + 4,
        Op::AvgPool { window, .. } => window.kernel[0] * window.kernel[1] + 4,
        Op::Add => node.inputs.len(),
        Op::MaxPool(_) | Op::Flatten | Op::Concat | Op::Channels(_) => 0,
        // No bound for a sample is stated with these.
        Op::Function(_) | Op::Product | Op::ResponseNorm(_) => 0,
    }
}

/// For every value, whether it can differ between the networks: some node on the way there has `changed`
/// parameters. The others are made by equal arithmetic from equal numbers.
pub fn drifting(network: &Network, changed: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut drifts = vec![false; network.nodes.len() + 1];
    for (i, node) in network.nodes.iter().enumerate() {
        drifts[i + 1] = changed(i) || node.inputs.iter().any(|&v| drifts[v]);
    }
    drifts
}

/// The largest `|sigma(p + s) - sigma(p)|` over `p` in `[low, high]` and `|s| <= e`, rounded upward; NaN if one of
/// them is NaN. A step up does most from the `p` nearest to 0, a step down from the one nearest to `e`.
#[inline(always)]
pub fn pruned(activation: Activation, low: f64, high: f64, e: f64) -> f64 {
    let cap = match activation {
        Activation::Identity => return e + 0.0 * (low + high),
        Activation::Relu => f64::INFINITY,
        Activation::Relu6 => 6.0,
    };
    if low.is_nan() || high.is_nan() || e.is_nan() {
        return f64::NAN;
    }
    let from = 0f64.max(low).min(high);
    let up = if from >= 0.0 {
        e.min(above_zero(cap - from))
    } else {
        above_zero(from + e).min(cap)
    };
    let from = e.max(low).min(high);
    let down = if from <= cap {
        e.min(from.max(0.0))
    } else {
        above_zero(e - (from - cap).next_down()).min(cap)
    };
    up.max(down).min(cap)
}

/// True when a bound `e` allows every value in `[0, cap]`, wherever within `reach` of `y` the reference is.
#[inline(always)]
pub fn says_nothing(cap: f64, y: f64, reach: f64, e: f64) -> bool {
    let (low, high) = ((y - reach).max(0.0), (y + reach).min(cap));
    e >= high.max(cap - low)
}

/// `max(x, 0)` of a rounded sum, rounded upward; the sign of a sum is never rounded away.
#[inline(always)]
fn above_zero(x: f64) -> f64 {
    if x <= 0.0 { 0.0 } else { x.next_up() }
}
