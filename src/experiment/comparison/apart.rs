//! How far values of two networks are apart.

use crate::tensor::Shape;

/// Values that are apart by this share of a layer's root mean square are the same but for how they were folded and summed.
const SAME: f64 = 1e-5;

/// How far values are apart, over all images.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    /// `max |b - a|`
    pub max_abs_diff: f64,
    /// `sum (b - a)^2` of each channel.
    squares: Vec<f64>,
    /// `sum a^2`
    reference: f64,
    /// Elements that are counted.
    elements: usize,
    /// Elements where either value is NaN or infinite; they count nowhere else.
    pub non_finite: usize,
}

impl Apart {
    pub(super) fn add(&mut self, a: &[f64], b: &[f64], shape: Shape) {
        self.squares.resize(shape.c, 0.0);
        for (i, (&x, &y)) in a.iter().zip(b).enumerate() {
            let diff = (y - x).abs();
            if !diff.is_finite() {
                self.non_finite += 1;
                continue;
            }
            self.max_abs_diff = self.max_abs_diff.max(diff);
            self.squares[i / shape.pixels() % shape.c] += diff * diff;
            self.reference += x * x;
            self.elements += 1;
        }
    }

    /// `10 log10 (sum a^2 / sum (b - a)^2)`; infinite where nothing differs.
    pub fn sqnr_db(&self) -> f64 {
        10.0 * (self.reference / self.squares.iter().sum::<f64>()).log10()
    }

    /// The channel that is furthest off, and its root mean square difference over that of all reference values.
    pub fn worst_channel(&self) -> (usize, f64) {
        let mean = self.reference / self.squares.len().max(1) as f64;
        let (channel, square) = largest(self.squares.iter().copied());
        let share = match square > 0.0 {
            true => (square / mean).sqrt(),
            false => 0.0,
        };
        (channel, share)
    }

    /// The channel whose root mean square difference is the largest multiple of what its grids make of it, and the multiple.
    /// `rounded` has the differences that rounding to nearest alone makes; they count as at least those of values spread
    /// evenly over a step of the length that a channel has.
    pub(super) fn beside(&self, rounded: &Self, step: impl Fn(usize) -> f64) -> (usize, f64) {
        let each = self.elements as f64 / self.squares.len().max(1) as f64;
        let same = SAME * SAME * self.reference / self.elements.max(1) as f64;
        let of = |c: usize| {
            let least = each * (step(c).powi(2) / 12.0).max(same);
            let permitted = rounded.squares.get(c).copied().unwrap_or(0.0).max(least);
            match self.squares[c] > 0.0 {
                true => self.squares[c] / permitted,
                false => 0.0,
            }
        };
        let (channel, ratio) = largest((0..self.squares.len()).map(of));
        (channel, ratio.sqrt())
    }
}

/// The largest of some numbers and where it is; 0 at 0 of none.
fn largest(numbers: impl Iterator<Item = f64>) -> (usize, f64) {
    let all = numbers.enumerate();
    all.max_by(|x, y| x.1.total_cmp(&y.1)).unwrap_or((0, 0.0))
}
