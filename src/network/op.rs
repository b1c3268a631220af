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
