//! The recursion over channels: a vector of errors and two of magnitudes for every value.

use super::vectors::{Vectors, before_activation};
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};

/// The least of what Lemma 2 and the path metric say of each weight, summed per channel.
pub(super) struct Channelwise {
    /// Clamps the error by what the magnitudes allow.
    pub cap: bool,
}

impl Bound for Channelwise {
    fn facts(&self) -> &'static BoundFacts {
        if self.cap {
            &facts::CHANNELWISE_CAP
        } else {
            &facts::CHANNELWISE
        }
    }

    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
        let mut values = vec![Vectors::of_input(setting)];
        for (i, node) in setting.network().nodes.iter().enumerate() {
            let value = before_activation(setting, i, node, &values);
            values.push(value.activated(setting, i, node.activation, self.cap));
        }
        Ok(Series::of(values[1..].iter().map(|v| v.error.max_entry())))
    }
}
