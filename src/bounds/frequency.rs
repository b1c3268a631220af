//! Norms of convolutions over a torus that their kernel cannot wrap around, from its frequency responses: a rigorous
//! bound for zero padding. A stride folds frequencies onto each other: what one of the coarse torus hears is the mean of
//! several, so that a kernel which blurs has a smaller norm than it has at stride 1.

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
    stride: [usize; 2],
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
            // The outputs lie on every `stride`-th place of a torus whose extent is a multiple of the stride.
            let size = |extent: usize, i: usize| {
                (extent + conv.dilation[i] * (kernel[i] - 1)).next_multiple_of(stride[i])
            };
            let (height, width) = (size(input.h, 0), size(input.w, 1));
            let frequencies = (height / stride[0] / 2 + 1) * (width / stride[1]);
            let folded = n * stride[0] * stride[1];
            let cost = cost(frequencies, (rows, folded), kernel[0] * kernel[1])?;
            (cost <= FREQUENCY_BUDGET / kernels).then(|| Self {
                rows,
                columns: n,
                kernel,
                stride,
                vertical: Side::new(height, kernel[0], conv.dilation[0]),
                horizontal: Side::new(width, kernel[1], conv.dilation[1]),
            })
        };
        with(conv.stride).or_else(|| with([1, 1]))
    }

    /// The largest norm of the frequency responses of a kernel (`rows x columns x taps`); `sums` are its magnitudes summed
    /// over taps.
    pub fn norm(&self, kernel: &[f64], sums: &Dense) -> Up {
        let (scaled, unit) = normalised(&flat(kernel));
        let lost = Up::new((kernel.len() * kernel.len()) as f64 * UNDERFLOW);
        (self.largest(&scaled.data).sqrt() + lost) * unit + self.slack(sums)
    }

    /// What roundings move the norm of a response by: sines are within `20 u`, their products within `120 u`; the rest are
    /// roundings of sums.
    fn slack(&self, sums: &Dense) -> Up {
        let [kh, kw] = self.kernel;
        frobenius(sums) * Up::new((256 + 8 * kh * kw) as f64 * UNIT_F64)
    }

    /// Of the kernel of one channel, with entries near 1, the norms of its responses at all frequencies, from above and always
    /// in the same order.
    pub fn gains(&self, kernel: &[f64]) -> Vec<f64> {
        let sums = Dense {
            rows: 1,
            cols: 1,
            data: vec![kernel.iter().map(|w| w.abs()).sum()],
        };
        let lost = (self.slack(&sums) + Up::new(kernel.len() as f64 * UNDERFLOW)).to_f64();
        let folded = (self.stride[0] * self.stride[1]) as f64;
        let mut gains = Vec::new();
        self.visit(kernel, |response| {
            let square = inflate(sum_of_squares(response), 2 * response.len() + 4);
            gains.push(((square / folded).sqrt().next_up().next_up() + lost).next_up());
        });
        gains
    }

    /// An upper bound of the largest squared norm, for entries near 1.
    fn largest(&self, kernel: &[f64]) -> Up {
        let folded = self.stride[0] * self.stride[1];
        let extents = (self.rows, self.columns * folded);
        let mut peak = 0.0f64;
        let mut ceiling = Ceiling::new();
        self.visit(kernel, |response| {
            if self.rows == 1 || extents.1 == 1 {
                peak = peak.max(sum_of_squares(response));
            } else {
                cover(response, extents, &mut ceiling);
            }
        });
        let peak = Up::new(inflate(peak, 2 * extents.0 * extents.1 + 2));
        ceiling.height().max(peak).over(Up::new(folded as f64))
    }

    /// Shows the response to every frequency, times the root of the stride's area.
    ///
    /// With stride `s x t` the places that are kept make a torus of `1/s x 1/t` the extents, and its frequency
    /// `(u, v)` hears all that differ from it by multiples of the coarse extents: their responses side by side, `rows x (columns s t)`, over the
    /// root of `s t`.
    fn visit(&self, kernel: &[f64], mut show: impl FnMut(&[[f64; 2]])) {
        let (width, pairs) = (self.horizontal.extent, self.rows * self.columns);
        let [s, t] = self.stride;
        let (high, wide) = (self.vertical.extent / s, width / t);
        let mut row = vec![[0.0; 2]; pairs * self.kernel[1]];
        let mut response = Vec::new();
        let mut maps = vec![[vec![0.0; pairs * width], vec![0.0; pairs * width]]; s];
        let frequencies = high / 2 + 1;
        for step in 0..frequencies {
            // Neighbours have norms alike: in leaps the largest is met early, and seldom rises after.
            let u = step * leap(frequencies) % frequencies;
            for (a, [re, im]) in maps.iter_mut().enumerate() {
                self.down(kernel, u + a * high, &mut row);
                self.across(&row, re, im);
            }
            for v in 0..wide {
                let v = v * leap(wide) % wide;
                response.clear();
                for k in 0..pairs {
                    for [re, im] in &maps {
                        let places = (k * width + v..(k + 1) * width).step_by(wide);
                        response.extend(places.map(|i| [re[i], im[i]]));
                    }
                }
                show(&response);
            }
        }
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
}

fn flat(kernel: &[f64]) -> Dense {
    Dense {
        rows: 1,
        cols: kernel.len(),
        data: kernel.to_vec(),
    }
}

fn sum_of_squares(response: &[[f64; 2]]) -> f64 {
    response.iter().map(|[x, y]| x * x + y * y).sum()
}

/// Raises the ceiling above the square of one response's norm, `rows x columns` complex numbers.
fn cover(response: &[[f64; 2]], (rows, columns): (usize, usize), ceiling: &mut Ceiling) {
    let (small, large) = (rows.min(columns), rows.max(columns));
    let at = |i: usize, k: usize| {
        if rows <= columns {
            response[i * columns + k]
        } else {
            // The transposed matrix has the same norm.
            response[k * columns + i]
        }
    };
    // `A = X + iY` has `A A* = (X X^T + Y Y^T) + i (Y X^T - X Y^T)`.
    let side_by_side = Dense::from_fn(small, 2 * large, |i, k| at(i, k % large)[k / large]);
    let turned = Dense::from_fn(small, 2 * large, |i, k| {
        if k < large {
            at(i, k)[1]
        } else {
            -at(i, k - large)[0]
        }
    });
    let (real, imaginary) = (
        side_by_side.gram(),
        turned.times(&side_by_side.transposed()),
    );
    // The Hermitian `P + iQ` has the eigenvalues of `[P, -Q; Q, P]`.
    let mut gram = Dense::zeros(2 * small, 2 * small);
    for i in 0..small {
        for j in 0..=i {
            let x = real.data[i * small + j];
            let y = if i == j {
                0.0
            } else {
                imaginary.data[i * small + j]
            };
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
    let trace: f64 = (0..small).map(|i| real.data[i * small + i]).sum();
    let size = Up::new(2.0 * inflate(trace, 2 * large + small));
    ceiling.cover(
        &gram,
        size * up_gamma(2 * large + 4) + Up::new((large * small) as f64 * UNDERFLOW),
    );
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
