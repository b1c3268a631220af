//! Sizes in pixels: one side, or height and width.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One side, or height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number of pixels, or [height, width]"
)]
pub enum Size {
    /// Of a resizing, the shorter side; of a crop, both.
    Side(usize),
    /// Height and width.
    Both([usize; 2]),
}

impl Size {
    /// Height and width, one side standing for both; written as one number where they are equal.
    pub fn of(height: usize, width: usize) -> Self {
        match height == width {
            true => Self::Side(height),
            false => Self::Both([height, width]),
        }
    }

    /// Height and width of a crop of this size.
    pub fn both(self) -> [usize; 2] {
        match self {
            Self::Side(side) => [side, side],
            Self::Both(both) => both,
        }
    }
}

impl From<usize> for Size {
    fn from(side: usize) -> Self {
        Self::Side(side)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Side(side) => write!(f, "{side}"),
            Self::Both([height, width]) => write!(f, "{height}x{width}"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |t: &str| t.parse::<usize>().ok();
        let both = text
            .split_once('x')
            .and_then(|(h, w)| Some([side(h)?, side(w)?]));
        side(text)
            .map(Self::Side)
            .or(both.map(Self::Both))
            .ok_or_else(|| "expected pixels, as in 224, or HEIGHTxWIDTH".into())
    }
}
