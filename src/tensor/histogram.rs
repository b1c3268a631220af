//! Histograms with dyadic bins: the edges are whole multiples of a power of two, so that the bin of an f32 or f64 value
//! is found without rounding, the same on every device, and counts of several batches simply add.

/// Bins `k = 0..count`, each `[(first + k) 2^exponent, (first + k + 1) 2^exponent)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bins {
    /// Exponent of the width.
    pub exponent: i32,
    /// Lower edge of the first bin in widths; at most `2^24` in magnitude.
    pub first: i32,
    /// Number of bins.
    pub count: usize,
}

/// Exponents whose power and inverse power are both normal in f32.
const EXPONENTS: std::ops::RangeInclusive<i32> = -120..=120;
/// Bits of an f32's significand.
const PRECISION: i32 = 23;

impl Bins {
    /// The finest at most `most` (at least 2) bins that cover `[min, max]`, no finer than an ulp of the larger end.
    /// Ends that are no finite interval give one bin around zero.
    pub fn covering(min: f64, max: f64, most: usize) -> Self {
        let (min, max) = if min <= max && min.is_finite() && max.is_finite() {
            (min, max)
        } else {
            (0.0, 0.0)
        };
        let largest = max.abs().max(min.abs());
        let finest = match largest {
            0.0 => 0,
            m => m.log2().floor() as i32 - PRECISION + 1,
        };
        let mut bins = Self::default();
        for exponent in finest.clamp(*EXPONENTS.start(), *EXPONENTS.end())..=*EXPONENTS.end() {
            let width = 2f64.powi(exponent);
            let (first, last) = ((min / width).floor(), (max / width).floor());
            bins = Self {
                exponent,
                first: first as i32,
                count: (last - first) as usize + 1,
            };
            if bins.count <= most.max(2) {
                break;
            }
        }
        bins
    }

    /// Width of a bin.
    pub fn width(&self) -> f64 {
        2f64.powi(self.exponent)
    }

    /// Cells of a histogram: the bins, one cell for everything below and one for everything above.
    pub fn cells(&self) -> usize {
        self.count + 2
    }

    /// The cell of a finite value: 0 below the bins, `k + 1` in bin k, `count + 1` above.
    #[inline(always)]
    pub fn cell(&self, x: f64) -> usize {
        let at = (x / self.width()).floor() - f64::from(self.first);
        // Saturates: everything below gives 0.
        ((at + 1.0).max(0.0) as usize).min(self.count + 1)
    }

    /// The interval of a cell; infinite at the two outer ends.
    pub fn edges(&self, cell: usize) -> (f64, f64) {
        let edge = |k: usize| (f64::from(self.first) + k as f64) * self.width();
        let lo = match cell {
            0 => f64::NEG_INFINITY,
            k => edge(k - 1),
        };
        let hi = match cell {
            k if k > self.count => f64::INFINITY,
            k => edge(k),
        };
        (lo, hi)
    }
}

/// Counts over [`Bins::cells`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Where the cells are.
    pub bins: Bins,
    /// One per cell.
    pub counts: Vec<u64>,
}

/// Added to every count before frequencies are compared, so that an empty cell has a finite logarithm.
pub const PSEUDOCOUNT: f64 = 0.5;

impl Histogram {
    /// Counts finite values.
    pub fn of<T: Copy + Into<f64>>(bins: Bins, values: &[T]) -> Self {
        let mut counts = vec![0; bins.cells()];
        let finite = values.iter().map(|&x| x.into()).filter(|x| x.is_finite());
        finite.for_each(|x| counts[bins.cell(x)] += 1);
        Self { bins, counts }
    }

    /// Values counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Frequencies `(count + 1/2) / (total + cells / 2)`.
    pub fn frequencies(&self) -> Vec<f64> {
        let total = self.total() as f64 + PSEUDOCOUNT * self.counts.len() as f64;
        let smooth = |&c: &u64| (c as f64 + PSEUDOCOUNT) / total;
        self.counts.iter().map(smooth).collect()
    }

    /// Cross entropy `-sum p ln q` in nats of this histogram's [`frequencies`](Self::frequencies) `p` with those of
    /// `other`, over the same bins.
    pub fn cross_entropy(&self, other: &Self) -> f64 {
        let (p, q) = (self.frequencies(), other.frequencies());
        p.iter().zip(&q).map(|(p, q)| -p * q.ln()).sum()
    }

    /// Kullback-Leibler divergence `sum p ln(p / q)` in nats, likewise; 0 when the counts agree.
    pub fn kl(&self, other: &Self) -> f64 {
        let (p, q) = (self.frequencies(), other.frequencies());
        let sum: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        // Rounding can leave a tiny negative sum where the true value is near zero.
        sum.max(0.0)
    }

    /// An upper edge that at least `percent` of the values lie under; the finest statement that the bins allow. Infinite
    /// when values above the bins are needed for it.
    pub fn upper(&self, percent: f64) -> f64 {
        let rank = ((percent / 100.0 * self.total() as f64).ceil() as u64).max(1);
        let mut below = 0;
        for (cell, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return self.bins.edges(cell).1;
            }
        }
        f64::INFINITY
    }

    /// A lower edge that at least `percent` of the values lie on or above, likewise.
    pub fn lower(&self, percent: f64) -> f64 {
        let rank = ((percent / 100.0 * self.total() as f64).ceil() as u64).max(1);
        let mut above = 0;
        for (cell, count) in self.counts.iter().enumerate().rev() {
            above += count;
            if above >= rank {
                return self.bins.edges(cell).0;
            }
        }
        f64::NEG_INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bins_cover_their_interval_and_edges_hold_their_values(
            a in -1e30f32..1e30, scale in -60i32..2, b in -1.0f32..1.0, most in 2usize..300, probe in -2.0f64..2.0,
        ) {
            let a = f64::from(a) * 2f64.powi(scale);
            let b = a + a.abs() * f64::from(b);
            let (lo, hi) = (a.min(b), a.max(b));
            let bins = Bins::covering(lo, hi, most);
            prop_assert!(bins.count <= most && bins.first.unsigned_abs() <= 1 << 24, "{bins:?}");
            for x in [lo, hi, lo + (hi - lo) * probe] {
                let cell = bins.cell(x);
                let (from, to) = bins.edges(cell);
                prop_assert!(from <= x && x < to, "{x} in cell {cell} of {bins:?}: {from}..{to}");
                if (lo..=hi).contains(&x) {
                    prop_assert!((1..=bins.count).contains(&cell), "{x} fell out of {bins:?}");
                }
            }
        }
    }

    #[test]
    fn bins_are_the_finest_allowed() {
        let bins = Bins::covering(0.0, 6.0, 128);
        assert_eq!((bins.width(), bins.first, bins.count), (0.0625, 0, 97));
        assert_eq!(Bins::covering(0.0, 0.0, 128).count, 1);
        assert_eq!(Bins::covering(f64::NAN, 1.0, 128).count, 1);
    }

    #[test]
    fn divergence_is_that_of_smoothed_frequencies() {
        let bins = Bins::covering(0.0, 1.0, 2);
        let of = |counts: [u64; 4]| Histogram {
            bins,
            counts: counts.to_vec(),
        };
        let (p, q) = (of([0, 6, 2, 0]), of([0, 4, 4, 0]));
        assert_eq!(p.kl(&p), 0.0);
        let expected = 0.65 * (6.5f64 / 4.5).ln() + 0.25 * (2.5f64 / 4.5).ln();
        assert!((p.kl(&q) - expected).abs() < 1e-15);
        let entropy = p.cross_entropy(&p);
        assert!((p.cross_entropy(&q) - entropy - expected).abs() < 1e-15);
    }

    #[test]
    fn percentiles_are_edges() {
        let bins = Bins::covering(-4.0, 3.5, 8);
        let values: Vec<f64> = (0..8).map(|i| f64::from(i) - 4.0).collect();
        let h = Histogram::of(bins, &values);
        assert_eq!(
            (h.upper(100.0), h.upper(50.0), h.lower(50.0)),
            (4.0, 0.0, 0.0)
        );
        assert_eq!(h.lower(100.0), -4.0);
    }
}
