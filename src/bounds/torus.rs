//! The torus of a convolution that its kernel cannot wrap around, and the frequencies that it is taken apart into.
//!
//! Outputs lie on every `stride`-th place. Sorted by the remainders of their places the inputs are `stride x stride` times as many channels of
//! a coarse torus, over which the convolution has stride 1; each tap is then a remainder (a *phase*) and a whole shift (a *place*).

use std::collections::BTreeMap;

use super::dense::Dense;
use crate::network::Conv;
use crate::tensor::Shape;

/// What the frequency responses of one layer may cost, in the units of [`cost`].
const FREQUENCY_BUDGET: usize = 1 << 31;

/// The torus of a layer.
pub(super) struct Torus {
    /// Rows and columns of the kernels.
    pub extents: [usize; 2],
    /// By tap, the number of its place and of its phase.
    taps: Vec<[usize; 2]>,
    phases: usize,
    places: Vec<[usize; 2]>,
    /// Differences of places, one of each two that are opposite; no difference first.
    pub lags: Vec<Lag>,
    sides: [Side; 2],
    /// One of each two that are opposite, whose responses are conjugate. Neighbours have norms alike: in leaps the largest is met
    /// early, and seldom rises after.
    frequencies: Vec<[usize; 2]>,
}

/// A difference of places.
pub(super) struct Lag {
    /// The places that are so far apart.
    pub pairs: Vec<[usize; 2]>,
    /// By frequency, the cosine and the sine of the angle between them.
    pub cos: Vec<f64>,
    pub sin: Vec<f64>,
}

/// One direction of a torus: cosines and sines of its angles.
struct Side {
    cos: Vec<f64>,
    sin: Vec<f64>,
}

impl Side {
    fn new(extent: usize) -> Self {
        let angles = (0..extent).map(|k| std::f64::consts::TAU * k as f64 / extent as f64);
        let (cos, sin) = angles.map(|a| (a.cos(), a.sin())).unzip();
        Self { cos, sin }
    }

    /// Cosine and sine of what a shift turns a frequency by.
    fn turn(&self, frequency: usize, shift: isize) -> [f64; 2] {
        let extent = self.cos.len() as isize;
        let k = (frequency as isize * shift).rem_euclid(extent) as usize;
        [self.cos[k], self.sin[k]]
    }
}

/// What all frequencies of a group of `rows x n` kernels may cost: the responses, and a norm of each.
fn cost(frequencies: usize, (rows, n): (usize, usize), taps: usize) -> Option<usize> {
    let small = rows.min(n);
    let norm = match small {
        1 => rows.max(n),
        _ => 4 * small * small * (rows.max(n) + small) + 256,
    };
    frequencies.checked_mul(rows * n * taps * 4 + norm)
}

impl Torus {
    /// The torus of a layer, for `kernels` of `rows x n` channels each; `None` where their frequencies would cost too much. Where
    /// the stride makes them so, they are taken as if it were 1.
    pub fn of(
        conv: &Conv,
        input: Shape,
        (rows, n): (usize, usize),
        kernels: usize,
    ) -> Option<Self> {
        let kernel = conv.kernel();
        let with = |stride: [usize; 2]| {
            // A multiple of the stride.
            let size = |extent: usize, i: usize| {
                (extent + conv.dilation[i] * (kernel[i] - 1)).div_ceil(stride[i])
            };
            let coarse = [size(input.h, 0), size(input.w, 1)];
            let frequencies = (coarse[0] / 2 + 1) * coarse[1];
            let folded = n * stride[0] * stride[1];
            let cost = cost(frequencies, (rows, folded), kernel[0] * kernel[1])?;
            (cost <= FREQUENCY_BUDGET / kernels)
                .then(|| Self::new([rows, n], kernel, conv.dilation, stride, coarse))
        };
        with(conv.stride).or_else(|| with([1, 1]))
    }

    fn new(
        extents: [usize; 2],
        kernel: [usize; 2],
        dilation: [usize; 2],
        stride: [usize; 2],
        coarse: [usize; 2],
    ) -> Self {
        let shifts = (0..kernel[0] * kernel[1])
            .map(|t| [t / kernel[1] * dilation[0], t % kernel[1] * dilation[1]]);
        let mut places = Vec::new();
        let taps = shifts.map(|shift| {
            let place = [0, 1].map(|i| shift[i] / stride[i]);
            let number = places.iter().position(|&p| p == place).unwrap_or_else(|| {
                places.push(place);
                places.len() - 1
            });
            [
                number,
                shift[0] % stride[0] * stride[1] + shift[1] % stride[1],
            ]
        });
        let taps = taps.collect();
        let sides = coarse.map(Side::new);
        let all = |u: usize| {
            0..if (2 * u).is_multiple_of(coarse[0]) {
                coarse[1] / 2 + 1
            } else {
                coarse[1]
            }
        };
        let in_order: Vec<[usize; 2]> = (0..=coarse[0] / 2)
            .flat_map(|u| all(u).map(move |v| [u, v]))
            .collect();
        let count = in_order.len();
        let frequencies = (0..count).map(|k| in_order[k * leap(count) % count]);
        let frequencies: Vec<[usize; 2]> = frequencies.collect();
        let mut torus = Self {
            extents,
            taps,
            phases: stride[0] * stride[1],
            places,
            lags: Vec::new(),
            sides,
            frequencies,
        };
        torus.lags = torus.lags();
        torus
    }

    fn lags(&self) -> Vec<Lag> {
        let mut pairs: BTreeMap<[isize; 2], Vec<[usize; 2]>> = BTreeMap::new();
        for (i, p) in self.places.iter().enumerate() {
            for (j, q) in self.places.iter().enumerate() {
                let lag = [0, 1].map(|k| p[k] as isize - q[k] as isize);
                // Opposite ones have opposite signs.
                if lag >= [0, 0] {
                    pairs.entry(lag).or_default().push([i, j]);
                }
            }
        }
        let turned = |(lag, pairs)| {
            let turns = (0..self.frequencies.len()).map(|f| self.turn(f, lag));
            let (cos, sin) = turns.map(|[cos, sin]| (cos, sin)).unzip();
            Lag { pairs, cos, sin }
        };
        pairs.into_iter().map(turned).collect()
    }

    /// How many frequencies there are.
    pub fn frequencies(&self) -> usize {
        self.frequencies.len()
    }

    /// Cosine and sine of what a shift turns a frequency by, each within `120 u`.
    fn turn(&self, frequency: usize, shift: [isize; 2]) -> [f64; 2] {
        let at = |i: usize| self.sides[i].turn(self.frequencies[frequency][i], shift[i]);
        let ([a, b], [c, d]) = (at(0), at(1));
        [a * c - b * d, a * d + b * c]
    }

    /// Cosine and sine of what each place turns a frequency by, each within `120 u`.
    pub fn turns(&self, frequency: usize) -> impl Iterator<Item = [f64; 2]> {
        let places = self.places.iter();
        places.map(move |p| self.turn(frequency, p.map(|x| x as isize)))
    }

    /// A kernel (`rows x columns x taps`) by place, `rows x (columns phases)` each.
    pub fn by_place(&self, kernel: &[f64]) -> Vec<Dense> {
        let [rows, columns] = self.extents;
        let wide = columns * self.phases;
        let mut places = vec![Dense::zeros(rows, wide); self.places.len()];
        for (pair, taps) in kernel.chunks(self.taps.len()).enumerate() {
            for (&[place, phase], w) in self.taps.iter().zip(taps) {
                places[place].data[pair * self.phases + phase] = *w;
            }
        }
        places
    }

    /// Of a kernel of one row by place: the squares of its responses are sums of these, each times the cosine of its lag.
    pub fn autocorrelation(&self, places: &[Dense]) -> Vec<f64> {
        let product = |&[i, j]: &[usize; 2]| -> f64 {
            let pairs = places[i].data.iter().zip(&places[j].data);
            pairs.map(|(x, y)| x * y).sum()
        };
        let both = |k: usize| if k == 0 { 1.0 } else { 2.0 };
        let lags = self.lags.iter().enumerate();
        // A lag and its opposite.
        lags.map(|(k, lag)| lag.pairs.iter().map(product).sum::<f64>() * both(k))
            .collect()
    }

    /// By frequency, the sum over lags of these numbers, each times the cosine of its lag.
    pub fn at_frequencies(&self, by_lag: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.frequencies()];
        for (lag, x) in self.lags.iter().zip(by_lag) {
            for (sum, cos) in sums.iter_mut().zip(&lag.cos) {
                *sum += x * cos;
            }
        }
        sums
    }

    /// What a sum over lags of their cosines times sums of `inner` products for each pair of places is rounded by, in units of `u` times
    /// the sum of all magnitudes: the entries given (`4 u` each), the sums, and the angles.
    pub fn roundings(&self, inner: usize) -> usize {
        inner * self.places.len() + 2 * self.lags.len() + 160
    }
}

/// A step near the golden ratio of `n` that meets all of `0..n`.
fn leap(n: usize) -> usize {
    let is_coprime = |step: &usize| {
        let (mut a, mut b) = (n, *step);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    let golden = (n as f64 * 0.618) as usize;
    (golden.max(1)..=n).find(is_coprime).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaps_meet_every_number() {
        for n in 1..60 {
            let mut met: Vec<usize> = (0..n).map(|i| i * leap(n) % n).collect();
            met.sort_unstable();
            assert_eq!(met, (0..n).collect::<Vec<_>>());
        }
    }
}
