//! One thing that is no longer as it was.

use serde::Serialize;

use crate::results::schema::{CellSummary, float};

/// What a change is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What is determined by the cell came out otherwise, or is gone.
    Fail,
    /// Worth a look; never a failure.
    Warn,
    /// To know.
    Note,
}

impl Level {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Warn => "WARN",
            Self::Note => "note",
        }
    }
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A bound at a depth holds, or does not, unlike before.
    Verdict,
    /// A bound has another value. Bounds follow from the weights alone: any change is one.
    Bound,
    /// A discrepancy moved by more than the two runs' floating-point allowances together.
    Discrepancy,
    /// Images whose largest logit is another one.
    Top1,
    /// Slower, or faster, by more than the spread of either run's batches.
    Speed,
    /// A cell of the base that the new run lacks.
    MissingCell,
    /// A cell that the base lacks.
    NewCell,
    /// A bound of the base that the new run lacks.
    MissingBound,
    /// A bound that the base lacks.
    NewBound,
}

impl What {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Bound => "bound",
            Self::Discrepancy => "discrepancy",
            Self::Top1 => "top-1",
            Self::Speed => "speed",
            Self::MissingCell => "missing cell",
            Self::NewCell => "new cell",
            Self::MissingBound => "missing bound",
            Self::NewBound => "new bound",
        }
    }

    fn level(self) -> Level {
        match self {
            Self::Verdict
            | Self::Bound
            | Self::Discrepancy
            | Self::MissingCell
            | Self::MissingBound => Level::Fail,
            Self::Top1 | Self::Speed => Level::Warn,
            Self::NewCell | Self::NewBound => Level::Note,
        }
    }
}

/// A number or words.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Said {
    /// The `log10` of a bound, a discrepancy, images per second.
    Number(#[serde(with = "float")] f64),
    /// A verdict.
    Words(String),
}

impl Said {
    /// Both as text, numbers with as many digits as tell them apart.
    pub fn texts(base: Option<&Self>, new: Option<&Self>) -> (String, String) {
        let text = |said: Option<&Self>, digits: Option<usize>| match (said, digits) {
            (None, _) => String::new(),
            (Some(Self::Words(words)), _) => words.clone(),
            (Some(Self::Number(x)), Some(d)) => short(*x, d),
            (Some(Self::Number(x)), None) => format!("{x:?}"),
        };
        let both = [4, 6, 9, 12].into_iter().map(Some).chain([None]);
        let mut texts = both.map(|d| (text(base, d), text(new, d)));
        let mut last = (String::new(), String::new());
        for texts in texts.by_ref() {
            let apart = texts.0 != texts.1;
            last = texts;
            if apart {
                break;
            }
        }
        last
    }
}

fn short(x: f64, digits: usize) -> String {
    if x == 0.0 || (1e-3..1e5).contains(&x.abs()) {
        let whole = x.abs().max(1.0).log10() as usize + 1;
        format!("{x:.*}", digits.saturating_sub(whole))
    } else {
        format!("{x:.*e}", digits - 1)
    }
}

/// A change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What it is worth.
    pub level: Level,
    /// What it is of.
    pub what: What,
    /// Names the cell.
    pub spec_id: String,
    /// `model quantizer 8 bit per-channel`.
    pub cell: String,
    /// The bound, where it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<String>,
    /// The depth where it is largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// The image where it is largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// As it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Said>,
    /// As it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Said>,
    /// Depths, images, or depths of images that it is true of.
    pub places: u64,
}

impl Change {
    /// A change of a cell as a whole.
    pub fn of_cell(what: What, cell: &CellSummary) -> Self {
        Self {
            level: what.level(),
            what,
            spec_id: cell.spec_id.clone(),
            cell: cell.key.title(),
            bound: None,
            depth: None,
            image: None,
            base: None,
            new: None,
            places: 1,
        }
    }

    /// Bound, depth and image, as far as the change is of one.
    pub fn place(&self) -> String {
        let depth = self.depth.map(|d| format!("depth {d}"));
        let parts = [self.bound.clone(), depth, self.image.clone()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// All of it in one line.
    pub fn line(&self) -> String {
        let (base, new) = Said::texts(self.base.as_ref(), self.new.as_ref());
        let place = self.place();
        let mut line = format!("{} {}: {}", self.level.name(), self.what.name(), self.cell);
        if !place.is_empty() {
            line += &format!(", {place}");
        }
        match (base.is_empty(), new.is_empty()) {
            (true, true) => {}
            (true, false) => line += &format!(": {new}"),
            _ => line += &format!(": {base} -> {new}"),
        }
        line
    }

    /// The same, from one thing to another.
    pub fn from_to(what: What, cell: &CellSummary, base: Said, new: Said) -> Self {
        Self {
            base: Some(base),
            new: Some(new),
            ..Self::of_cell(what, cell)
        }
    }
}

/// Something about how two runs were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name.
    pub what: &'static str,
    /// In the base.
    pub base: String,
    /// In the new run.
    pub new: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_tell_them_apart() {
        let texts = |a: f64, b: f64| Said::texts(Some(&Said::Number(a)), Some(&Said::Number(b)));
        assert_eq!(texts(1.25, 2.5), ("1.250".into(), "2.500".into()));
        let (a, b) = texts(1.25, 1.25f64.next_up());
        assert_eq!(a, "1.25");
        assert!(b.starts_with("1.25000000000000"), "{b}");
        assert_eq!(texts(f64::NAN, 1e-9), ("NaN".into(), "1.000e-9".into()));
    }
}
