//! The forward pass written literally from the definitions, in f64, one output value at a time.

use quantbound::network::{Activation, Network, Op, Window};
use quantbound::tensor::Shape;

/// Every node's output for one image, in node order.
pub fn forward(network: &Network, input: &[f64]) -> Vec<Vec<f64>> {
    assert_eq!(input.len(), network.input.len());
    let mut values: Vec<Vec<f64>> = vec![input.to_vec()];
    for node in &network.nodes {
        let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
        let inputs: Vec<&[f64]> = node.inputs.iter().map(|&v| values[v].as_slice()).collect();
        let mut out = apply(&node.op, &shapes, &inputs, node.shape);
        for y in &mut out {
            *y = activate(node.activation, *y);
        }
        values.push(out);
    }
    values.remove(0);
    values
}

/// `max` and `min` would swallow NaN; these keep it.
pub fn activate(activation: Activation, y: f64) -> f64 {
    match activation {
        Activation::Identity => y,
        _ if y < 0.0 => 0.0,
        Activation::Relu6 if y > 6.0 => 6.0,
        _ => y,
    }
}

/// One operation, before its activation.
pub fn apply(op: &Op, shapes: &[Shape], inputs: &[&[f64]], out: Shape) -> Vec<f64> {
    let (x, s) = (inputs[0], shapes[0]);
    let at = |c: usize, y: isize, x_: isize| -> Option<f64> {
        let inside = y >= 0 && x_ >= 0 && (y as usize) < s.h && (x_ as usize) < s.w;
        inside.then(|| x[(c * s.h + y as usize) * s.w + x_ as usize])
    };
    let each = |f: &dyn Fn(usize, usize, usize) -> f64| -> Vec<f64> {
        let mut result = Vec::with_capacity(out.len());
        for c in 0..out.c {
            for y in 0..out.h {
                for x in 0..out.w {
                    result.push(f(c, y, x));
                }
            }
        }
        result
    };
    let window = |w: &Window, c: usize, y: usize, x: usize| -> Vec<Option<f64>> {
        let mut pixels = Vec::new();
        for a in 0..w.kernel[0] {
            for b in 0..w.kernel[1] {
                let row = (y * w.stride[0] + a) as isize - w.pad.top as isize;
                let column = (x * w.stride[1] + b) as isize - w.pad.left as isize;
                pixels.push(at(c, row, column));
            }
        }
        pixels
    };
    match op {
        Op::Conv(conv) => {
            let d = conv.weight.dims();
            let (per_group_in, [kh, kw]) = (d[1], conv.kernel());
            let per_group_out = d[0] / conv.groups;
            each(&|o, y, x| {
                let mut sum = f64::from(conv.bias[o]);
                for i in 0..per_group_in {
                    for a in 0..kh {
                        for b in 0..kw {
                            let row = (y * conv.stride[0] + a * conv.dilation[0]) as isize
                                - conv.pad.top as isize;
                            let column = (x * conv.stride[1] + b * conv.dilation[1]) as isize
                                - conv.pad.left as isize;
                            let channel = o / per_group_out * per_group_in + i;
                            let k = conv.weight.data()[((o * per_group_in + i) * kh + a) * kw + b];
                            sum += f64::from(k) * at(channel, row, column).unwrap_or(0.0);
                        }
                    }
                }
                sum
            })
        }
        Op::Linear(linear) => each(&|o, _, _| {
            let row = &linear.weight.data()[o * x.len()..(o + 1) * x.len()];
            let dot: f64 = row.iter().zip(x).map(|(&w, &v)| f64::from(w) * v).sum();
            f64::from(linear.bias[o]) + dot
        }),
        Op::Add => (0..x.len())
            .map(|i| inputs.iter().map(|v| v[i]).sum())
            .collect(),
        Op::MaxPool(w) => each(&|c, y, x| {
            let pixels = window(w, c, y, x);
            let real = pixels.into_iter().flatten();
            real.fold(
                f64::NEG_INFINITY,
                |m, v| if v > m || v.is_nan() { v } else { m },
            )
        }),
        Op::AvgPool {
            window: w,
            count_include_pad,
        } => each(&|c, y, x| {
            let pixels = window(w, c, y, x);
            let real: Vec<f64> = pixels.iter().copied().flatten().collect();
            let divisor = if *count_include_pad {
                pixels.len()
            } else {
                real.len()
            };
            real.iter().sum::<f64>() / divisor as f64
        }),
        Op::GlobalAvgPool => x
            .chunks(s.pixels())
            .map(|channel| channel.iter().sum::<f64>() / s.pixels() as f64)
            .collect(),
        Op::Flatten => x.to_vec(),
        Op::Concat => inputs.concat(),
        Op::Function(f) => x.iter().map(|&v| f.at(v)).collect(),
        Op::Product => {
            let each = if inputs[1].len() == x.len() {
                1
            } else {
                s.pixels()
            };
            x.iter()
                .enumerate()
                .map(|(i, v)| v * inputs[1][i / each])
                .collect()
        }
        Op::ResponseNorm(norm) => each(&|c, y, column| {
            let at = |c: usize| x[(c * s.h + y) * s.w + column];
            let squares = norm.around(c, s.c).map(|c| at(c) * at(c)).sum();
            at(c) * norm.factor(squares)
        }),
        Op::Channels(taken) => {
            let planes = taken
                .sources()
                .map(|c| x.chunks(s.pixels()).nth(c).unwrap());
            planes.flatten().copied().collect()
        }
    }
}
