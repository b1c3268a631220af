//! Norms of convolutions over a torus that their kernel cannot wrap around, from its frequency responses: a rigorous
//! bound for zero padding.

use super::definite::Ceiling;
use super::dense::Dense;
use super::rounding::{UNDERFLOW, frobenius, normalised, up_gamma};
use super::scaled::{Up, inflate};
use crate::network::Conv;
use crate::tensor::Shape;
use crate::tensor::tolerance::UNIT_F64;

/// What the frequency responses of one layer may cost, in the units of [`cost`].
const FREQUENCY_BUDGET: usize = 1 << 31;

/// The torus of a layer, with the sines of its frequencies.
pub(super) struct Torus {
    rows: usize,
    columns: usize,
    kernel: [usize; 2],
    vertical: Side,
    horizontal: Side,
}

/// One direction of a torus.
struct Side {
    extent: usize,
    /// By tap and frequency, the cosine and the sine of the angle between them.
    cos: Vec<f64>,
    sin: Vec<f64>,
}

impl Side {
    fn new(extent: usize, taps: usize, dilation: usize) -> Self {
        let angles = (0..extent).map(|k| std::f64::consts::TAU * k as f64 / extent as f64);
        let (cos, sin): (Vec<f64>, Vec<f64>) = angles.map(|a| (a.cos(), a.sin())).unzip();
        let by_tap = |table: &[f64]| {
            let taps = 0..taps;
            taps.flat_map(|t| (0..extent).map(move |u| u * t * dilation % extent))
                .map(|k| table[k])
                .collect()
        };
        Self {
            extent,
            cos: by_tap(&cos),
            sin: by_tap(&sin),
        }
    }

    /// Cosines and sines of one tap, by frequency.
    fn of_tap(&self, tap: usize) -> (&[f64], &[f64]) {
        let range = tap * self.extent..(tap + 1) * self.extent;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// What all frequencies of a group of `rows x n` kernels may cost: the responses, and a norm of each.
fn cost(frequencies: usize, (rows, n): (usize, usize), taps: usize) -> Option<usize> {
    let small = rows.min(n);
    let squarings = match small {
        0..=160 => 6,
        161..=512 => 5,
        _ => 4,
    };
    let norm = match small {
        1 => rows.max(n),
        _ => 8 * small * small * (rows.max(n) + squarings * small) + 256,
    };
    frequencies.checked_mul(rows * n * taps * 4 + norm)
}

impl Torus {
    /// The torus of a layer whose groups have `rows` and `n` channels; `None` where its frequencies would cost too much.
    pub fn of(conv: &Conv, input: Shape, (rows, n): (usize, usize)) -> Option<Self> {
        let kernel = conv.kernel();
        let size = |extent: usize, i: usize| extent + conv.dilation[i] * (kernel[i] - 1);
        let (height, width) = (size(input.h, 0), size(input.w, 1));
        let frequencies = (height / 2 + 1) * width;
        let cost = cost(frequencies, (rows, n), kernel[0] * kernel[1])?;
        (cost <= FREQUENCY_BUDGET / conv.groups).then(|| Self {
            rows,
            columns: n,
            kernel,
            vertical: Side::new(height, kernel[0], conv.dilation[0]),
            horizontal: Side::new(width, kernel[1], conv.dilation[1]),
        })
    }

    /// The largest norm of the frequency responses of a kernel (`rows x columns x taps`); `sums` are its magnitudes summed
    /// over taps.
    pub fn norm(&self, kernel: &[f64], sums: &Dense) -> Up {
        let flat = Dense {
            rows: 1,
            cols: kernel.len(),
            data: kernel.to_vec(),
        };
        let (scaled, unit) = normalised(&flat);
        let [kh, kw] = self.kernel;
        // Sines are within 20 u, their products within 120 u; the rest are roundings of sums.
        let slack = frobenius(sums) * Up::new((256 + 8 * kh * kw) as f64 * UNIT_F64);
        let lost = Up::new((kernel.len() * kernel.len()) as f64 * UNDERFLOW);
        (self.largest(&scaled.data).sqrt() + lost) * unit + slack
    }

    /// An upper bound of the largest squared norm, for entries near 1.
    fn largest(&self, kernel: &[f64]) -> Up {
        let (width, pairs) = (self.horizontal.extent, self.rows * self.columns);
        let mut row = vec![[0.0; 2]; pairs * self.kernel[1]];
        let mut response = vec![[0.0; 2]; 0];
        let (mut re, mut im) = (vec![0.0; pairs * width], vec![0.0; pairs * width]);
        let mut peak = 0.0f64;
        let mut ceiling = Ceiling::new();
        let frequencies = self.vertical.extent / 2 + 1;
        for step in 0..frequencies {
            // Neighbours have norms alike: in leaps the largest is met early, and seldom rises after.
            let u = step * leap(frequencies) % frequencies;
            self.down(kernel, u, &mut row);
            self.across(&row, &mut re, &mut im);
            if self.rows.min(self.columns) == 1 {
                for v in 0..width {
                    let places = (v..pairs * width).step_by(width);
                    let square: f64 = places.map(|i| re[i] * re[i] + im[i] * im[i]).sum();
                    peak = peak.max(square);
                }
                continue;
            }
            for v in 0..width {
                let v = v * leap(width) % width;
                response.clear();
                response.extend((0..pairs).map(|k| [re[k * width + v], im[k * width + v]]));
                self.cover(&response, &mut ceiling);
            }
        }
        ceiling.height().max(Up::new(inflate(peak, 2 * pairs + 2)))
    }

    /// The kernel's responses to the vertical frequency `u`, by pair of channels and column of the kernel.
    fn down(&self, kernel: &[f64], u: usize, row: &mut [[f64; 2]]) {
        let [kh, kw] = self.kernel;
        for (taps, sums) in kernel.chunks(kh * kw).zip(row.chunks_mut(kw)) {
            for (b, sum) in sums.iter_mut().enumerate() {
                *sum = [0.0; 2];
                for a in 0..kh {
                    let (cos, sin) = self.vertical.of_tap(a);
                    sum[0] += taps[a * kw + b] * cos[u];
                    sum[1] += taps[a * kw + b] * sin[u];
                }
            }
        }
    }

    /// The responses to all horizontal frequencies, by pair of channels and frequency.
    fn across(&self, row: &[[f64; 2]], re: &mut [f64], im: &mut [f64]) {
        let width = self.horizontal.extent;
        re.fill(0.0);
        im.fill(0.0);
        let maps = re.chunks_mut(width).zip(im.chunks_mut(width));
        for (taps, (re, im)) in row.chunks(self.kernel[1]).zip(maps) {
            for (b, &[x, y]) in taps.iter().enumerate() {
                let (cos, sin) = self.horizontal.of_tap(b);
                for v in 0..width {
                    re[v] += x * cos[v] - y * sin[v];
                    im[v] += x * sin[v] + y * cos[v];
                }
            }
        }
    }

    /// Raises the ceiling above the square of one response's norm.
    fn cover(&self, response: &[[f64; 2]], ceiling: &mut Ceiling) {
        let (rows, columns) = (self.rows, self.columns);
        let (small, large) = (rows.min(columns), rows.max(columns));
        let at = |i: usize, k: usize| match rows <= columns {
            true => response[i * columns + k],
            // The transposed matrix has the same norm.
            false => response[k * columns + i],
        };
        // The Hermitian `X + iY` has the eigenvalues of `[X, -Y; Y, X]`.
        let mut gram = Dense::zeros(2 * small, 2 * small);
        let mut trace = 0.0;
        for i in 0..small {
            for j in 0..=i {
                let (mut x, mut y) = (0.0, 0.0);
                for k in 0..large {
                    let ([a, b], [c, d]) = (at(i, k), at(j, k));
                    x += a * c + b * d;
                    y += b * c - a * d;
                }
                if i == j {
                    (trace, y) = (trace + x, 0.0);
                }
                let mut put = |r: usize, c: usize, value: f64| {
                    gram.data[r * 2 * small + c] = value;
                    gram.data[c * 2 * small + r] = value;
                };
                put(i, j, x);
                put(small + i, small + j, x);
                put(i, small + j, -y);
                put(j, small + i, y);
            }
        }
        let size = Up::new(2.0 * inflate(trace, 2 * large + small));
        ceiling.cover(
            &gram,
            size * up_gamma(2 * large + 4) + Up::new((large * small) as f64 * UNDERFLOW),
        );
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
