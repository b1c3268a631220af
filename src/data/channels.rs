//! The channels of a network's input, and numbers that stand one for each.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// The channels of a network's input, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red (Caffe).
    Bgr,
    /// Luma of ITU-R 601, as Pillow's `convert("L")` has it.
    Grey,
    /// Red, green, blue and alpha, which is 255 where an image has none.
    Rgba,
}

impl Channels {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb | Self::Bgr => 3,
            Self::Rgba => 4,
        }
    }

    /// The usual ones of a network with `count` input channels; `None` for counts that no picture has.
    pub fn of_count(count: usize) -> Option<Self> {
        [Self::Grey, Self::Rgb, Self::Rgba]
            .into_iter()
            .find(|c| c.count() == count)
    }

    /// As plans and flags write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Grey => "grey",
            Self::Rgba => "rgba",
        }
    }

    /// Which sample of an interleaved pixel a channel of the network is.
    pub(super) fn source(self, channel: usize) -> usize {
        match self {
            Self::Bgr => 2 - channel,
            _ => channel,
        }
    }

    /// True for the usual order, which records leave out.
    pub(super) fn is_rgb(&self) -> bool {
        *self == Self::Rgb
    }
}

impl std::str::FromStr for Channels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Rgb, Self::Bgr, Self::Grey, Self::Rgba]
            .into_iter()
            .find(|c| c.name() == text)
            .ok_or_else(|| "expected rgb, bgr, grey or rgba".into())
    }
}

/// One number per channel of the network's input, or one for all of them.
#[derive(Clone, Copy, PartialEq)]
pub struct PerChannel {
    values: [f32; 4],
    len: usize,
}

impl PerChannel {
    /// The same for every channel.
    pub const fn all(value: f32) -> Self {
        Self {
            values: [value, 0.0, 0.0, 0.0],
            len: 1,
        }
    }

    /// For the three channels of colour images, in the network's order.
    pub const fn three([a, b, c]: [f32; 3]) -> Self {
        Self {
            values: [a, b, c, 0.0],
            len: 3,
        }
    }

    /// One, three or four numbers.
    pub fn new(values: &[f32]) -> Result<Self, String> {
        if ![1, 3, 4].contains(&values.len()) {
            return Err(format!(
                "{} numbers, expected one, or one per channel (3, or 4 with alpha)",
                values.len()
            ));
        }
        let mut own = [0.0; 4];
        own[..values.len()].copy_from_slice(values);
        Ok(Self {
            values: own,
            len: values.len(),
        })
    }

    /// The number of a channel.
    pub fn at(&self, channel: usize) -> f32 {
        match self.len {
            1 => self.values[0],
            _ => self.values[channel.min(3)],
        }
    }
}

impl Deref for PerChannel {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl From<[f32; 3]> for PerChannel {
    fn from(values: [f32; 3]) -> Self {
        Self::three(values)
    }
}

impl fmt::Debug for PerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

impl fmt::Display for PerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |x: &f32| {
            let text = format!("{x:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        };
        let parts: Vec<String> = self.iter().map(short).collect();
        f.write_str(&parts.join(","))
    }
}

impl Serialize for PerChannel {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self[..].serialize(to)
    }
}

impl<'de> Deserialize<'de> for PerChannel {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a number, or a list of one per channel"
        )]
        enum Written {
            One(f32),
            Each(Vec<f32>),
        }
        match Written::deserialize(from)? {
            Written::One(value) => Ok(Self::all(value)),
            Written::Each(values) => Self::new(&values).map_err(serde::de::Error::custom),
        }
    }
}

impl std::str::FromStr for PerChannel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split(',').map(|part| part.trim().parse::<f32>());
        let numbers: Result<Vec<f32>, _> = numbers.collect();
        let wrong =
            |_| format!("{text:?}: expected numbers separated by commas, as in 0.485,0.456,0.406");
        Self::new(&numbers.map_err(wrong)?)
    }
}
