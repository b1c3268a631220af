//! Shape inference, one rule per operation.

use super::NetworkError;
use super::op::{Op, Pad};
use crate::tensor::Shape;

/// Output extent of a sliding window; `None` when the window does not fit.
pub fn window_extent(
    size: usize,
    pad: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
) -> Option<usize> {
    let reach = dilation.checked_mul(kernel.checked_sub(1)?)? + 1;
    Some((size + pad).checked_sub(reach)? / stride.max(1) + 1)
}

fn slide(
    node: &str,
    input: Shape,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: Pad,
) -> Result<(usize, usize), NetworkError> {
    let extent = |size, p, i: usize| window_extent(size, p, kernel[i], stride[i], dilation[i]);
    extent(input.h, pad.top + pad.bottom, 0)
        .zip(extent(input.w, pad.left + pad.right, 1))
        .filter(|_| stride.iter().chain(&dilation).all(|&s| s > 0))
        .ok_or_else(|| NetworkError::Shape {
            node: node.to_string(),
            expected: format!(
                "an input of at least {}x{} pixels, and strides above 0",
                kernel[0], kernel[1]
            ),
            got: input.to_string(),
        })
}

/// The output shape of `op` over `inputs`, or what is wrong with them.
pub fn infer(node: &str, op: &Op, inputs: &[Shape]) -> Result<Shape, NetworkError> {
    let wrong = |expected: String, got: String| NetworkError::Shape {
        node: node.to_string(),
        expected,
        got,
    };
    let arity_ok = match op {
        Op::Add | Op::Concat => inputs.len() >= 2,
        Op::Product => inputs.len() == 2,
        _ => inputs.len() == 1,
    };
    if !arity_ok {
        return Err(wrong(
            "one input, or two and more for a sum or concatenation".into(),
            format!("{} inputs", inputs.len()),
        ));
    }
    let input = inputs[0];
    match op {
        Op::Conv(conv) => {
            let d = conv.weight.dims();
            if d.len() != 4 || d.contains(&0) || conv.groups == 0 {
                return Err(wrong(
                    "a kernel [out, in/groups, kh, kw]".into(),
                    format!("{d:?}"),
                ));
            }
            if d[1] * conv.groups != input.c || d[0] % conv.groups != 0 {
                return Err(wrong(
                    format!(
                        "{} input channels in {} groups",
                        d[1] * conv.groups,
                        conv.groups
                    ),
                    format!("input {input} and kernel {d:?}"),
                ));
            }
            if conv.bias.len() != d[0] {
                return Err(wrong(
                    format!("{} biases", d[0]),
                    conv.bias.len().to_string(),
                ));
            }
            let (h, w) = slide(
                node,
                input,
                [d[2], d[3]],
                conv.stride,
                conv.dilation,
                conv.pad,
            )?;
            Ok(Shape::new(d[0], h, w))
        }
        Op::Linear(linear) => {
            let d = linear.weight.dims();
            if input.pixels() != 1 {
                return Err(wrong(
                    "a vector (flatten the map first)".into(),
                    input.to_string(),
                ));
            }
            if d.len() != 2 || d.contains(&0) || d[1] != input.c || linear.bias.len() != d[0] {
                return Err(wrong(
                    format!("a matrix [out, {}] and one bias per row", input.c),
                    format!("{d:?} and {} biases", linear.bias.len()),
                ));
            }
            Ok(Shape::vector(d[0]))
        }
        Op::Add => match inputs.iter().find(|&&s| s != input) {
            Some(other) => Err(wrong(
                format!("summands of shape {input}"),
                other.to_string(),
            )),
            None => Ok(input),
        },
        Op::MaxPool(window) | Op::AvgPool { window, .. } => {
            let (h, w) = slide(
                node,
                input,
                window.kernel,
                window.stride,
                [1, 1],
                window.pad,
            )?;
            if window.pad.top.max(window.pad.bottom) >= window.kernel[0]
                || window.pad.left.max(window.pad.right) >= window.kernel[1]
            {
                return Err(wrong(
                    "padding smaller than the pooling window".into(),
                    format!("{window:?}"),
                ));
            }
            Ok(Shape::new(input.c, h, w))
        }
        Op::GlobalAvgPool => Ok(Shape::vector(input.c)),
        Op::Flatten => Ok(Shape::vector(input.len())),
        Op::Function(_) => Ok(input),
        Op::ResponseNorm(norm) if norm.size > 0 => Ok(input),
        Op::ResponseNorm(norm) => Err(wrong("a size of at least 1".into(), format!("{norm:?}"))),
        Op::Product if inputs[1] == input || inputs[1] == Shape::vector(input.c) => Ok(input),
        Op::Product => Err(wrong(
            format!(
                "a factor of {input}, or of one value for each of {} channels",
                input.c
            ),
            inputs[1].to_string(),
        )),
        Op::Channels(channels) if channels.fits(input.c) => {
            Ok(Shape::new(channels.count, input.h, input.w))
        }
        Op::Channels(channels) => Err(wrong(
            format!(
                "channels of {} of which each is taken once at most",
                input.c
            ),
            format!("{channels:?}"),
        )),
        Op::Concat => match inputs.iter().find(|s| (s.h, s.w) != (input.h, input.w)) {
            Some(other) => Err(wrong(
                format!("maps of {}x{} pixels", input.h, input.w),
                other.to_string(),
            )),
            None => Ok(Shape::new(
                inputs.iter().map(|s| s.c).sum(),
                input.h,
                input.w,
            )),
        },
    }
}
