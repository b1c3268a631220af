//! An operation in a few words, with all that tells it from another of its kind but its weights.

use super::op::{Function, Op, Pad, Window};

/// What an operation is.
pub fn described(op: &Op) -> String {
    match op {
        Op::Conv(c) => {
            let d = c.weight.dims();
            let inputs = d[1] * c.groups;
            let dilation = match c.dilation {
                [1, 1] => String::new(),
                both => format!(", dilation {}", sides(both)),
            };
            format!(
                "{}x{} convolution, {inputs} to {} channels, stride {}{}{dilation}, groups {}",
                d[2],
                d[3],
                d[0],
                sides(c.stride),
                padding(c.pad),
                c.groups
            )
        }
        Op::Linear(l) => format!(
            "dense layer, {} to {}",
            l.weight.dims()[1],
            l.weight.dims()[0]
        ),
        Op::Add => "sum".into(),
        Op::MaxPool(w) => pooling("max", w),
        Op::AvgPool {
            window,
            count_include_pad,
        } => {
            let counted = match *count_include_pad && window.pad != Pad::default() {
                true => ", which counts",
                false => "",
            };
            format!("{}{counted}", pooling("average", window))
        }
        Op::GlobalAvgPool => "global average pooling".into(),
        Op::Flatten => "flattening".into(),
        Op::Concat => "concatenation".into(),
        Op::Channels(_) => "choice of channels".into(),
        Op::Function(Function::Sigmoid) => "sigmoid".into(),
        Op::Function(Function::HardSigmoid { .. }) => "hard sigmoid".into(),
        Op::Function(Function::HardSwish) => "hard swish".into(),
        Op::Product => "product".into(),
        Op::ResponseNorm(_) => "response normalization".into(),
    }
}

fn pooling(kind: &str, window: &Window) -> String {
    let [height, width] = window.kernel;
    format!(
        "{height}x{width} {kind} pooling, stride {}{}",
        sides(window.stride),
        padding(window.pad)
    )
}

/// One number where both are it.
fn sides([vertical, horizontal]: [usize; 2]) -> String {
    match vertical == horizontal {
        true => vertical.to_string(),
        false => format!("{vertical}x{horizontal}"),
    }
}

/// Nothing of no padding.
fn padding(pad: Pad) -> String {
    match pad {
        p if p == Pad::default() => String::new(),
        p if p == Pad::all(p.top) => format!(", padding {}", p.top),
        p => format!(", padding {} {} {} {}", p.top, p.left, p.bottom, p.right),
    }
}
