//! A quantized network as an ONNX model with `QuantizeLinear` and `DequantizeLinear`, which runtimes run to our numbers.
//!
//! Weights are codes with a `DequantizeLinear`; where one term of codes does not say them (residuals, column scales) they
//! are the dequantized floats. Biases are floats, as they are here.

use super::{At, QuantizedActivation, QuantizedLayer, QuantizedNetwork};
use crate::network::onnx::{Setting, Writer};
use crate::network::{Activation, Function, Network, Node, Op, Pad, Window};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The model.
    pub bytes: Vec<u8>,
    /// Layers whose weights are codes.
    pub coded: usize,
    /// Layers whose weights are dequantized floats.
    pub floats: usize,
}

/// Writes a quantized form of `network`.
///
/// # Errors
/// What of it does not fit the network.
pub fn export(network: &Network, quantized: &QuantizedNetwork) -> Result<Exported, String> {
    let mut writer = Writer::default();
    let (mut coded, mut floats) = (0, 0);
    let mut values = vec!["input".to_string()];
    for (i, node) in network.nodes.iter().enumerate() {
        let grids = |at: At| -> Vec<QuantizedActivation> {
            let all = quantized.activations.iter();
            all.filter(|g| g.node == i && g.at == at).copied().collect()
        };
        for grid in quantized.activations.iter().filter(|g| g.node == i) {
            grid.fits(network)?;
        }
        let mut inputs: Vec<String> = node.inputs.iter().map(|&v| values[v].clone()).collect();
        for (k, input) in inputs.iter_mut().enumerate() {
            let channels = network.shape(node.inputs[k]).c;
            *input = on_grids(&mut writer, node, input, (&grids(At::Input(k)), channels))?;
        }
        let layer = quantized.layer(i);
        if let Some(layer) = layer {
            layer
                .fits(node)
                .map_err(|e| format!("{}: {e}", node.name))?;
            match layer.is_single_term() {
                true => coded += 1,
                false => floats += 1,
            }
        }
        let mut value = operation(&mut writer, node, &inputs, layer);
        let channels = node.shape.c;
        value = on_grids(&mut writer, node, &value, (&grids(At::Inner), channels))?;
        value = match node.activation {
            Activation::Identity => value,
            Activation::Relu => writer.node("Relu", &node.name, &[&value], vec![]),
            Activation::Relu6 => {
                let low = writer.floats(format!("{}.low", node.name), &[], &[0.0]);
                let high = writer.floats(format!("{}.high", node.name), &[], &[6.0]);
                writer.node("Clip", &node.name, &[&value, &low, &high], vec![])
            }
        };
        value = on_grids(&mut writer, node, &value, (&grids(At::Output), channels))?;
        values.push(value);
    }
    let wide = quantized.layers.iter().any(|l| l.bits > 8)
        || quantized.activations.iter().any(|g| g.bits > 8);
    let opset = if wide { 21 } else { 14 };
    let rank = match network.nodes.last().map(|n| &n.op) {
        Some(Op::Linear(_) | Op::Flatten) => 2,
        _ => 4,
    };
    let output = values.last().map_or("input", String::as_str);
    let (input, shape) = (("input", network.input), network.output());
    Ok(Exported {
        bytes: writer.finish(&network.name, opset, input, (output, shape, rank)),
        coded,
        floats,
    })
}

/// A value on grids one after the other: each of all channels, or one for each.
fn on_grids(
    writer: &mut Writer,
    node: &Node,
    value: &str,
    (grids, channels): (&[QuantizedActivation], usize),
) -> Result<String, String> {
    let mut value = value.to_string();
    let together = |a: &QuantizedActivation, b: &QuantizedActivation| {
        a.channel.is_some() && b.channel > a.channel && a.bits == b.bits
    };
    for one in grids.chunk_by(together) {
        if one[0].channel.is_some() && one.len() != channels {
            return Err(format!(
                "{}: a grid for {} of {channels} channels, which QuantizeLinear has not",
                node.name,
                one.len()
            ));
        }
        value = on_grid(writer, &node.name, &value, one);
    }
    Ok(value)
}

/// `QuantizeLinear` and `DequantizeLinear`, with a `Clip` of the codes between them where they are fewer than their type has.
fn on_grid(writer: &mut Writer, name: &str, value: &str, grids: &[QuantizedActivation]) -> String {
    let bits = grids[0].bits;
    let several = grids[0].channel.is_some();
    let extents = if several { vec![grids.len()] } else { vec![] };
    let axis = || Vec::from_iter(several.then_some(Setting::Int("axis", 1)));
    let scales: Vec<f32> = grids.iter().map(|g| g.scale).collect();
    let zeros: Vec<u16> = grids.iter().map(|g| g.zero_point).collect();
    let scale = writer.floats(format!("{value}.scale"), &extents, &scales);
    let zero = writer.codes(format!("{value}.zero_point"), &extents, &zeros, bits);
    let read = [value, &scale, &zero];
    let mut codes = writer.node("QuantizeLinear", name, &read, axis());
    if !matches!(bits, 8 | 16) {
        let top = ((1u32 << bits) - 1) as u16;
        let low = writer.codes(format!("{value}.low"), &[], &[0], bits);
        let high = writer.codes(format!("{value}.high"), &[], &[top], bits);
        codes = writer.node("Clip", name, &[&codes, &low, &high], vec![]);
    }
    writer.node("DequantizeLinear", name, &[&codes, &scale, &zero], axis())
}

/// Names of a layer's weights and bias.
fn parameters(
    writer: &mut Writer,
    node: &Node,
    dims: &[usize],
    layer: Option<&QuantizedLayer>,
) -> [String; 2] {
    let name = &node.name;
    let affine = node.affine();
    let own = affine.as_ref().map_or(&[][..], |a| a.bias);
    let bias = layer.and_then(|l| l.bias.as_deref()).unwrap_or(own);
    let bias = writer.floats(format!("{name}.bias"), &[bias.len()], bias);
    let weight = match layer {
        Some(layer) if layer.is_single_term() => {
            let codes = writer.codes(
                format!("{name}.weight_quantized"),
                dims,
                &layer.codes,
                layer.bits,
            );
            let several = [layer.scale.len()];
            let extents = if layer.scale.len() == 1 {
                &[][..]
            } else {
                &several[..]
            };
            let scale = writer.floats(format!("{name}.weight_scale"), extents, &layer.scale);
            let zero = writer.codes(
                format!("{name}.weight_zero_point"),
                extents,
                &layer.zero_point,
                layer.bits,
            );
            let axis = vec![Setting::Int("axis", 0)];
            writer.node("DequantizeLinear", name, &[&codes, &scale, &zero], axis)
        }
        Some(layer) => writer.floats(format!("{name}.weight"), dims, &layer.dequantize(dims[0])),
        None => {
            let weight = affine.as_ref().map_or(&[][..], |a| a.weight);
            writer.floats(format!("{name}.weight"), dims, weight)
        }
    };
    [weight, bias]
}

fn pads(pad: Pad) -> Setting<'static> {
    let all = [pad.top, pad.left, pad.bottom, pad.right];
    Setting::Ints("pads", all.map(|p| p as i64).to_vec())
}

fn pair(name: &'static str, pair: [usize; 2]) -> Setting<'static> {
    Setting::Ints(name, pair.map(|p| p as i64).to_vec())
}

fn window(w: &Window) -> Vec<Setting<'static>> {
    vec![
        pair("kernel_shape", w.kernel),
        pair("strides", w.stride),
        pads(w.pad),
    ]
}

/// The operation without its activation.
fn operation(
    writer: &mut Writer,
    node: &Node,
    inputs: &[String],
    layer: Option<&QuantizedLayer>,
) -> String {
    let name = node.name.as_str();
    let read: Vec<&str> = inputs.iter().map(String::as_str).collect();
    match &node.op {
        Op::Conv(c) => {
            let [weight, bias] = parameters(writer, node, c.weight.dims(), layer);
            let settings = vec![
                pair("strides", c.stride),
                pads(c.pad),
                pair("dilations", c.dilation),
                Setting::Int("group", c.groups as i64),
            ];
            writer.node("Conv", name, &[read[0], &weight, &bias], settings)
        }
        Op::Linear(l) => {
            let [weight, bias] = parameters(writer, node, l.weight.dims(), layer);
            let flat = writer.node("Flatten", name, &read[..1], vec![]);
            writer.node(
                "Gemm",
                name,
                &[&flat, &weight, &bias],
                vec![Setting::Int("transB", 1)],
            )
        }
        Op::Add => match read.len() {
            2 => writer.node("Add", name, &read, vec![]),
            _ => writer.node("Sum", name, &read, vec![]),
        },
        Op::MaxPool(w) => writer.node("MaxPool", name, &read, window(w)),
        Op::AvgPool {
            window: w,
            count_include_pad,
        } => {
            let mut settings = window(w);
            settings.push(Setting::Int(
                "count_include_pad",
                i64::from(*count_include_pad),
            ));
            writer.node("AveragePool", name, &read, settings)
        }
        Op::GlobalAvgPool => writer.node("GlobalAveragePool", name, &read, vec![]),
        Op::Flatten => writer.node("Flatten", name, &read, vec![]),
        Op::Concat => writer.node("Concat", name, &read, vec![Setting::Int("axis", 1)]),
        Op::Channels(taken) => {
            let sources: Vec<i64> = taken.sources().map(|c| c as i64).collect();
            let sources = writer.integers(format!("{name}.channels"), &sources);
            writer.node(
                "Gather",
                name,
                &[read[0], &sources],
                vec![Setting::Int("axis", 1)],
            )
        }
        Op::Function(Function::Sigmoid) => writer.node("Sigmoid", name, &read, vec![]),
        Op::Function(Function::HardSigmoid { slope, offset }) => {
            let settings = vec![
                Setting::Float("alpha", *slope),
                Setting::Float("beta", *offset),
            ];
            writer.node("HardSigmoid", name, &read, settings)
        }
        Op::Function(Function::HardSwish) => writer.node("HardSwish", name, &read, vec![]),
        Op::Product => writer.node("Mul", name, &read, vec![]),
        Op::ResponseNorm(norm) => {
            let settings = vec![
                Setting::Int("size", norm.size as i64),
                Setting::Float("alpha", norm.alpha),
                Setting::Float("beta", norm.beta),
                Setting::Float("bias", norm.bias),
            ];
            writer.node("LRN", name, &read, settings)
        }
    }
}
