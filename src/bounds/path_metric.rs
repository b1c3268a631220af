//! The path metric `f(|theta|; t) + f(|theta'|; t) - 2 f(c; t)`: forward passes over magnitudes, without
//! activations, where `c` keeps what both networks have in common.

use super::vectors::{Vectors, before_activation};
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};

/// The difference of the three passes is propagated itself, so nothing cancels.
pub(super) struct PathMetric;

impl Bound for PathMetric {
    fn facts(&self) -> &'static BoundFacts {
        &facts::PATH_METRIC
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let mut values = vec![Vectors::of_input(setting)];
        for (i, node) in setting.network().nodes.iter().enumerate() {
            let inputs: Vec<&Vectors> = node.inputs.iter().map(|&v| &values[v]).collect();
            values.push(before_activation(setting, i, node, &inputs));
        }
        Ok(Series::of(values[1..].iter().map(|v| v.error.max_entry())))
    }
}
