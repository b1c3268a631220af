//! The typed operations that networks are made of.

use crate::tensor::Tensor;

/// Elementwise functions, all 1-Lipschitz with value 0 at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// `x`
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
}

impl Activation {
    /// Upper end of the range, where there is one.
    pub fn cap(self) -> Option<f64> {
        (self == Activation::Relu6).then_some(6.0)
    }

    /// True when outputs are never negative.
    pub fn is_nonnegative(self) -> bool {
        self != Activation::Identity
    }
}

/// The operations that engines run and bounds understand.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// 2-D cross-correlation, any groups (depthwise included).
    Conv(Conv),
    /// Dense layer over a vector (flatten maps first).
    Linear(Linear),
    /// Sum of all inputs, which have one shape.
    Add,
    /// Largest value of each window; padding never wins.
    MaxPool(Window),
    /// Mean of each window.
    AvgPool {
        /// Kernel, stride and padding.
        window: Window,
        /// True divides by the kernel's size at the border too, false by the number of real pixels.
        count_include_pad: bool,
    },
    /// Mean over all pixels of each channel.
    GlobalAvgPool,
    /// `C x H x W` to a vector, channel-major.
    Flatten,
    /// Channels of all inputs, one after the other.
    Concat,
    /// Some channels of the input, each once, in an order of their own: part of a split, a channel shuffle.
    Channels(Channels),
    /// A function of each value that is measured, but has no bounds.
    Function(Function),
    /// Product of two inputs, value by value; the second may have one value per channel. Measured, without bounds.
    Product,
    /// Local response normalization. Measured, without bounds.
    ResponseNorm(ResponseNorm),
}

impl Op {
    /// The assumption of the bounds that the operation does not meet, if there is one.
    pub fn breaks(&self) -> Option<&'static str> {
        match self {
            Op::Function(_) => Some(
                "bounds assume activations that are 1-Lipschitz and 0 at 0, and know ReLU and ReLU6",
            ),
            Op::Product => Some(
                "bounds assume maps that are linear between activations, which the product of two computed maps \
                 (squeeze-and-excite, attention) is not",
            ),
            Op::ResponseNorm(_) => Some(
                "bounds assume maps that are linear between activations, which a normalization by the values \
                 themselves is not",
            ),
            _ => None,
        }
    }
}

/// Functions of one value that networks are built with and bounds do not know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `min(max(slope x + offset, 0), 1)`
    HardSigmoid {
        /// Factor.
        slope: f32,
        /// Value at 0.
        offset: f32,
    },
    /// `x min(max(x / 6 + 1 / 2, 0), 1)`
    HardSwish,
}

impl Function {
    /// The value at `x`, in f64; NaN stays NaN.
    pub fn at(self, x: f64) -> f64 {
        // `clamp` keeps NaN.
        match self {
            Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Function::HardSigmoid { slope, offset } => {
                (f64::from(slope) * x + f64::from(offset)).clamp(0.0, 1.0)
            }
            Function::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        }
    }
}

/// `x / (bias + alpha / size * s)^beta`, where `s` is the sum of the squares of `size` channels around that of `x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResponseNorm {
    /// Channels of the sum: `(size - 1) / 2` before and the rest after.
    pub size: usize,
    /// Factor of the mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Summand.
    pub bias: f32,
}

impl ResponseNorm {
    /// Channels of the sum for channel `c` of `channels`.
    pub fn around(&self, c: usize, channels: usize) -> std::ops::Range<usize> {
        let before = self.size.saturating_sub(1) / 2;
        let after = self.size.saturating_sub(1) - before;
        c.saturating_sub(before)..(c + after + 1).min(channels)
    }

    /// What a value is multiplied with, given the sum of squares.
    pub fn factor(&self, squares: f64) -> f64 {
        let scaled = f64::from(self.alpha) / self.size as f64 * squares;
        (f64::from(self.bias) + scaled).powf(-f64::from(self.beta))
    }
}

/// Which channels of the input are taken: output channel `c` is input channel
/// `first + steps[0] (c mod inner) + steps[1] (c div inner)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channels {
    /// Channels of the output.
    pub count: usize,
    /// The input channel that comes first.
    pub first: usize,
    /// Output channels of one run.
    pub inner: usize,
    /// Steps within a run, and from one run to the next.
    pub steps: [usize; 2],
}

impl Channels {
    /// `count` channels from `first` on, `step` apart.
    pub const fn slice(first: usize, count: usize, step: usize) -> Self {
        Self {
            count,
            first,
            inner: 1,
            steps: [0, step],
        }
    }

    /// The transposition of `rows` x `columns` channels: channel `i` of all rows, then channel `i + 1` of all rows.
    pub const fn shuffle(rows: usize, columns: usize) -> Self {
        Self {
            count: rows * columns,
            first: 0,
            inner: rows,
            steps: [columns, 1],
        }
    }

    /// The input channel behind output channel `c`.
    pub fn source(&self, c: usize) -> usize {
        self.first + self.steps[0] * (c % self.inner) + self.steps[1] * (c / self.inner)
    }

    /// The input channels in the order of the output.
    pub fn sources(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.count).map(|c| self.source(c))
    }

    /// True when every output channel is an input channel of its own.
    pub fn fits(&self, channels: usize) -> bool {
        let sane = self.inner > 0
            && (1..=channels).contains(&self.count)
            && self.steps.iter().all(|&s| s <= channels)
            && self.first < channels;
        let mut taken = vec![false; if sane { channels } else { 0 }];
        sane && self.sources().all(|c| {
            taken
                .get_mut(c)
                .is_some_and(|t| !std::mem::replace(t, true))
        })
    }
}

/// Zero padding in pixels; sides may differ (TensorFlow's `SAME` at stride 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pad {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Pad {
    /// The same padding on all four sides.
    pub const fn all(p: usize) -> Self {
        Self {
            top: p,
            left: p,
            bottom: p,
            right: p,
        }
    }

    /// TensorFlow's `SAME`: the output has `ceil(size / stride)` pixels, the odd pixel goes below and right.
    pub fn same(input: (usize, usize), kernel: [usize; 2], stride: [usize; 2]) -> Self {
        let total = |size: usize, k: usize, s: usize| {
            ((size.div_ceil(s).max(1) - 1) * s + k).saturating_sub(size)
        };
        let (v, h) = (
            total(input.0, kernel[0], stride[0]),
            total(input.1, kernel[1], stride[1]),
        );
        Self {
            top: v / 2,
            left: h / 2,
            bottom: v - v / 2,
            right: h - h / 2,
        }
    }
}

/// Geometry of a pooling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Padding.
    pub pad: Pad,
}

/// A convolution's parameters and geometry.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// `[out, in / groups, kh, kw]`.
    pub weight: Tensor,
    /// One per output channel.
    pub bias: Vec<f32>,
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Zero padding.
    pub pad: Pad,
    /// Vertical and horizontal dilation; 1 is dense.
    pub dilation: [usize; 2],
    /// Channel groups; equal to the input channels for depthwise.
    pub groups: usize,
}

impl Conv {
    /// Kernel height and width.
    pub fn kernel(&self) -> [usize; 2] {
        [self.weight.dims()[2], self.weight.dims()[3]]
    }

    /// True for 1x1, stride 1, unpadded, ungrouped: a plain matrix product over pixels.
    pub fn is_pointwise(&self) -> bool {
        self.kernel() == [1, 1]
            && self.stride == [1, 1]
            && self.groups == 1
            && self.pad == Pad::default()
    }

    /// True when each output channel reads exactly its own input channel.
    pub fn is_depthwise(&self) -> bool {
        self.weight.dims()[1] == 1 && self.weight.dims()[0] == self.groups && self.groups > 1
    }
}

/// A dense layer's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// One per output.
    pub bias: Vec<f32>,
}

/// What convolutions and dense layers share: a matrix of kernels `[out][in / groups][taps]` and a bias.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// Kernels, `out * in_per_group * taps` values.
    pub weight: &'a [f32],
    /// One per output channel.
    pub bias: &'a [f32],
    /// Output channels.
    pub out: usize,
    /// Input channels that one output channel reads.
    pub in_per_group: usize,
    /// Kernel height x width; 1 for dense layers.
    pub taps: usize,
    /// Channel groups.
    pub groups: usize,
}

impl Affine<'_> {
    /// `p^2 c / groups`: inputs that one output value reads.
    pub fn fan_in(&self) -> usize {
        self.in_per_group * self.taps
    }

    /// Kernel row of output channel `o`, `[in / groups][taps]`.
    pub fn row(&self, o: usize) -> &[f32] {
        let n = self.fan_in();
        &self.weight[o * n..(o + 1) * n]
    }

    /// First input channel that output channel `o` reads.
    pub fn first_input(&self, o: usize) -> usize {
        o / (self.out / self.groups) * self.in_per_group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_puts_the_odd_pixel_below_and_right() {
        let pad = Pad::same((224, 224), [3, 3], [2, 2]);
        assert_eq!((pad.top, pad.bottom, pad.left, pad.right), (0, 1, 0, 1));
        let pad = Pad::same((225, 112), [3, 3], [2, 1]);
        assert_eq!((pad.top, pad.bottom, pad.left, pad.right), (1, 1, 1, 1));
        assert_eq!(Pad::same((7, 7), [1, 1], [2, 2]), Pad::default());
    }
}
