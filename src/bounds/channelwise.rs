//! The recursion over channels: a vector of errors and two of magnitudes for every value.

use super::vectors::{Vectors, before_activation};
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::quant::At;

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

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let mut values = vec![Vectors::of_input(setting)];
        for (i, node) in setting.network().nodes.iter().enumerate() {
            let rounded = |value: Vectors, at: At, nonnegative: bool| {
                value.rounded(setting.roundings(i, at), nonnegative, self.cap)
            };
            let read: Vec<Option<Vectors>> = (node.inputs.iter().enumerate())
                .map(|(k, &v)| {
                    let at = At::Input(k);
                    setting.roundings(i, at).next()?;
                    Some(rounded(values[v].clone(), at, setting.is_nonnegative(v)))
                })
                .collect();
            let inputs = node.inputs.iter().zip(&read);
            let inputs: Vec<&Vectors> = inputs
                .map(|(&v, own)| own.as_ref().unwrap_or(&values[v]))
                .collect();
            let value = before_activation(setting, i, node, &inputs);
            let value = rounded(value, At::Inner, false);
            let value = value.activated(setting, i, node.activation, self.cap);
            values.push(rounded(value, At::Output, setting.is_nonnegative(i + 1)));
        }
        Ok(Series::of(values[1..].iter().map(|v| v.error.max_entry())))
    }
}
