//! How the values of a feature map are distributed: moments of each channel and a histogram of the whole.

use crate::tensor::histogram::{Bins, Histogram};

/// Ranges and sums of one channel over all images of a batch. Elements that are NaN or infinite, in either network
/// where two are compared, are counted and stand in no range or sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelMoments {
    /// Elements, finite or not.
    pub count: u64,
    /// Elements that are not finite.
    pub non_finite: u64,
    /// Smallest; `+inf` of nothing.
    pub min: f64,
    /// Largest; `-inf` of nothing.
    pub max: f64,
    /// Sum.
    pub sum: f64,
    /// Sum of squares.
    pub sum_sq: f64,
    /// Sum of squared distances to the full-precision values.
    pub sum_sq_diff: f64,
}

impl Default for ChannelMoments {
    fn default() -> Self {
        Self {
            count: 0,
            non_finite: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            sum_sq: 0.0,
            sum_sq_diff: 0.0,
        }
    }
}

impl ChannelMoments {
    /// Reduces values beside their full-precision ones, in index order, in f64.
    pub fn of<T: Copy + Into<f64>>(values: &[T], reference: &[T]) -> Self {
        let mut moments = Self::default();
        for (&x, &y) in values.iter().zip(reference) {
            moments.see(x.into(), y.into());
        }
        moments
    }

    /// Takes one value beside its full-precision one.
    #[inline(always)]
    pub fn see(&mut self, x: f64, reference: f64) {
        self.count += 1;
        if !x.is_finite() || !reference.is_finite() {
            self.non_finite += 1;
            return;
        }
        let diff = x - reference;
        self.min = self.min.min(x);
        self.max = self.max.max(x);
        self.sum += x;
        self.sum_sq += x * x;
        self.sum_sq_diff += diff * diff;
    }

    /// Adds other elements: exactly in ranges and counts, to f64 rounding in sums.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.non_finite += other.non_finite;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.sum_sq += other.sum_sq;
        self.sum_sq_diff += other.sum_sq_diff;
    }

    /// True when there are elements and all of them are finite.
    pub fn is_sound(&self) -> bool {
        self.count > 0 && self.non_finite == 0
    }

    fn sound(&self, value: f64) -> f64 {
        if self.is_sound() { value } else { f64::NAN }
    }

    /// `max - min`; NaN, as everything below, when an element is not finite.
    pub fn range(&self) -> f64 {
        self.sound(self.max - self.min)
    }

    /// Mean.
    pub fn mean(&self) -> f64 {
        self.sound(self.sum / self.count as f64)
    }

    /// Standard deviation from the two sums: it loses digits where the mean is far larger.
    pub fn std(&self) -> f64 {
        let mean = self.mean();
        let variance = self.sum_sq / self.count as f64 - mean * mean;
        self.sound(variance.max(0.0).sqrt())
    }

    /// Mean squared distance to the full-precision values.
    pub fn mse(&self) -> f64 {
        self.sound(self.sum_sq_diff / self.count as f64)
    }
}

/// One node's output over a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// One per channel.
    pub channels: Vec<ChannelMoments>,
    /// One per cell of the node's bins; empty when none were given. Elements that are not finite are in no cell.
    pub counts: Vec<u64>,
}

impl Distribution {
    /// Adds another batch, counted in the same bins.
    pub fn merge(&mut self, other: &Self) {
        if self.channels.is_empty() {
            return self.clone_from(other);
        }
        for (own, other) in self.channels.iter_mut().zip(&other.channels) {
            own.merge(other);
        }
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            *own += other;
        }
    }

    /// All channels together.
    pub fn layer(&self) -> ChannelMoments {
        let mut layer = ChannelMoments::default();
        self.channels.iter().for_each(|c| layer.merge(c));
        layer
    }

    /// At most `most` bins over the range of the finite values.
    pub fn bins(&self, most: usize) -> Bins {
        let layer = self.layer();
        Bins::covering(layer.min, layer.max, most)
    }

    /// The counts with the bins they were taken in.
    pub fn histogram(&self, bins: Bins) -> Histogram {
        Histogram {
            bins,
            counts: self.counts.clone(),
        }
    }

    /// The definition: one image's or batch's map `[image][channel][pixel]`, without engine or blocking.
    pub fn literal<T: Copy + Into<f64>>(
        values: &[T],
        reference: &[T],
        (channels, pixels): (usize, usize),
        bins: Option<&Bins>,
    ) -> Self {
        let mut own = Self {
            channels: vec![ChannelMoments::default(); channels],
            counts: bins.map_or(Vec::new(), |b| Histogram::of(*b, values).counts),
        };
        let planes = values.chunks(pixels).zip(reference.chunks(pixels));
        for (i, (x, y)) in planes.enumerate() {
            own.channels[i % channels].merge(&ChannelMoments::of(x, y));
        }
        own
    }
}
