//! Sliding windows: explicit and automatic padding, and pooling that rounds up.

use super::attributes::Attributes;
use crate::network::op::{Pad, Window};
use crate::tensor::Shape;

/// Kernel, stride, dilation and padding of a node over an input of a known size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Kernel, stride and padding.
    pub window: Window,
    /// Dilation.
    pub dilation: [usize; 2],
}

/// Reads the geometry; `kernel` is the convolution's, pooling nodes have it as an attribute.
pub fn read(
    attributes: Attributes<'_>,
    kernel: Option<[usize; 2]>,
    input: Shape,
) -> Result<Geometry, String> {
    let named = attributes.sizes::<2>("kernel_shape")?;
    let kernel = match (kernel, named) {
        (Some(kernel), Some(named)) if kernel != named => {
            return Err(format!(
                "kernel_shape is {named:?}, the weights have {kernel:?}"
            ));
        }
        (kernel, named) => kernel.or(named).ok_or("kernel_shape is missing")?,
    };
    let stride = attributes.sizes("strides")?.unwrap_or([1, 1]);
    let dilation = attributes.sizes("dilations")?.unwrap_or([1, 1]);
    if kernel.contains(&0) || stride.contains(&0) || dilation.contains(&0) {
        return Err("a kernel extent, stride or dilation is 0".into());
    }
    let reach = |i: usize| (kernel[i] - 1) * dilation[i] + 1;
    let auto = attributes.text("auto_pad");
    let pad = match auto.as_deref().unwrap_or("NOTSET") {
        "NOTSET" | "" => {
            let [top, left, bottom, right] = attributes.sizes("pads")?.unwrap_or([0; 4]);
            Pad {
                top,
                left,
                bottom,
                right,
            }
        }
        "VALID" => Pad::default(),
        "SAME_UPPER" => Pad::same((input.h, input.w), [reach(0), reach(1)], stride),
        "SAME_LOWER" => {
            let p = Pad::same((input.h, input.w), [reach(0), reach(1)], stride);
            Pad {
                top: p.bottom,
                left: p.right,
                bottom: p.top,
                right: p.left,
            }
        }
        other => return Err(format!("auto_pad {other:?} is unknown")),
    };
    Ok(Geometry {
        window: Window {
            kernel,
            stride,
            pad,
        },
        dilation,
    })
}

/// Padding below or to the right that makes a rounding-down window give as many outputs as a rounding-up one:
/// windows that begin beyond the input and its leading padding are left out, as in PyTorch and ONNX Runtime.
/// `None` when the window does not fit at all.
fn ceil_end(
    size: usize,
    before: usize,
    after: usize,
    kernel: usize,
    stride: usize,
) -> Option<usize> {
    let span = (size + before + after).checked_sub(kernel)?;
    let mut count = span.div_ceil(stride) + 1;
    if (count - 1) * stride >= size + before {
        count -= 1;
    }
    if count == span / stride + 1 {
        return Some(after);
    }
    Some(((count - 1) * stride + kernel).saturating_sub(size + before))
}

/// The window with its padding extended for `ceil_mode`; `Err` when the window does not fit.
pub fn round_up(window: Window, input: Shape) -> Result<Window, String> {
    let Window {
        kernel,
        stride,
        pad,
    } = window;
    let below = ceil_end(input.h, pad.top, pad.bottom, kernel[0], stride[0]);
    let right = ceil_end(input.w, pad.left, pad.right, kernel[1], stride[1]);
    let (bottom, right) = below
        .zip(right)
        .ok_or_else(|| format!("the window {kernel:?} does not fit the input {input}"))?;
    Ok(Window {
        pad: Pad {
            bottom,
            right,
            ..pad
        },
        ..window
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_up_gives_the_outputs_of_ceil_mode() {
        // 112 pixels, kernel 3, stride 2: 56 outputs rounded up, the last window one pixel over the edge.
        assert_eq!(ceil_end(112, 0, 0, 3, 2), Some(1));
        assert_eq!(ceil_end(113, 0, 0, 3, 2), Some(0));
        // The window that would begin in the padding is dropped.
        assert_eq!(ceil_end(4, 1, 1, 2, 3), Some(1));
        assert_eq!(ceil_end(3, 0, 0, 5, 1), None);
    }
}
