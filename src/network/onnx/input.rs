//! The input of a model: which one it is, its shape and its layout.

use std::collections::HashSet;

use super::attributes::Attributes;
use super::importer::View;
use super::{DEFAULT_SIDE, LARGEST_MAP, OnnxError, constant, proto};
use crate::tensor::Shape;

/// What the network reads.
pub struct Layout {
    /// Shape of one image.
    pub shape: Shape,
    /// How the file lays it out.
    pub view: View,
    /// Images at once: as the file says, 1 where it leaves that open.
    pub batch: usize,
}

/// The declared extents.
fn extents(input: &proto::ValueInfo) -> Option<&[proto::Dimension]> {
    let tensor = input.r#type.as_ref()?.tensor_type.as_ref()?;
    Some(&tensor.shape.as_ref()?.dim)
}

/// The one graph input that is data: weights may be listed as inputs too.
pub fn find_input<'a>(
    graph: &'a proto::Graph,
    needed: &[usize],
) -> Result<&'a proto::ValueInfo, OnnxError> {
    let constants: HashSet<&str> = graph
        .initializer
        .iter()
        .filter_map(|t| t.name.as_deref())
        .collect();
    let read: HashSet<&str> = needed
        .iter()
        .flat_map(|&i| graph.node[i].input.iter().map(String::as_str))
        .collect();
    let data: Vec<&proto::ValueInfo> = graph
        .input
        .iter()
        .filter(|v| {
            let name = v.name.as_deref().unwrap_or_default();
            !constants.contains(name) && read.contains(name)
        })
        .collect();
    match data[..] {
        [input] => Ok(input),
        _ => {
            let names: Vec<&str> = data.iter().filter_map(|v| v.name.as_deref()).collect();
            Err(OnnxError::Malformed(format!(
                "needs exactly one input that the output depends on, has {names:?}"
            )))
        }
    }
}

/// True when the image comes as NHWC: what is done with it, elementwise work and padding aside, begins with a
/// transposition to NCHW, or with one channel at the end with a reshaping.
pub fn reads_channels_last(
    graph: &proto::Graph,
    needed: &[usize],
    input: &proto::ValueInfo,
) -> bool {
    let mut read: HashSet<&str> = HashSet::from([input.name.as_deref().unwrap_or_default()]);
    let extent = |i: usize| extents(input).and_then(|d| d.get(i)?.value);
    for node in needed.iter().map(|&i| &graph.node[i]) {
        if !node.input.iter().any(|n| read.contains(n.as_str())) {
            continue;
        }
        match node.op_type.as_deref().unwrap_or_default() {
            "Transpose" => {
                return Attributes(&node.attribute).ints("perm") == Some(&[0, 3, 1, 2]);
            }
            "Reshape" => return extent(3) == Some(1) && extent(1) != Some(1),
            "Identity" | "Cast" | "CastLike" | "Dropout" | "Add" | "Sub" | "Mul" | "Div"
            | "Neg" | "Relu" | "Clip" | "Max" | "Min" | "Pad" | "Slice" | "Gather" | "Split"
            | "Concat" | "QuantizeLinear" | "DequantizeLinear" | "Quant" | "QLinearAdd"
            | "QLinearMul" => {
                read.extend(node.output.iter().map(String::as_str));
            }
            // It tells of the layout, and changes nothing.
            "Shape" | "Size" => {}
            _ => return false,
        }
    }
    false
}

/// The input's shape per image and its layout; notes say what was assumed.
pub fn input_layout(
    input: &proto::ValueInfo,
    channels_last: bool,
    side: Option<usize>,
    notes: &mut Vec<String>,
) -> Result<Layout, OnnxError> {
    let name = input.name.as_deref().unwrap_or_default();
    let malformed = |problem: String| OnnxError::Malformed(format!("input {name:?} {problem}"));
    let dims = extents(input).ok_or_else(|| malformed("has no shape".into()))?;
    let extent = |i: usize| -> Result<Option<usize>, OnnxError> {
        match dims[i].value {
            Some(v) if v > 0 => match usize::try_from(v) {
                Ok(v) if v <= LARGEST_MAP => Ok(Some(v)),
                _ => Err(malformed(format!("has an extent of {v}"))),
            },
            _ => Ok(None),
        }
    };
    let shape = match (dims.len(), channels_last) {
        (4, false) => [extent(1)?, extent(2)?, extent(3)?],
        (4, true) => [extent(3)?, extent(1)?, extent(2)?],
        (2, _) => [extent(1)?, Some(1), Some(1)],
        (rank, _) => {
            return Err(malformed(format!(
                "has {rank} dimensions; a batch of images has 4, of vectors 2"
            )));
        }
    };
    let (view, layout) = match (dims.len(), channels_last) {
        (2, _) => (View::Vector, "vectors"),
        (_, true) => (View::ChannelsLast, "NHWC in the file, NCHW here"),
        (_, false) => (View::Map, "NCHW"),
    };
    let [c, h, w] = shape;
    let side = side.unwrap_or(DEFAULT_SIDE);
    if c.is_none() {
        notes.push(format!("input {name:?}: channels are left open, 3 assumed"));
    }
    if h.is_none() || w.is_none() {
        notes.push(format!(
            "input {name:?}: height or width is left open, {side} assumed"
        ));
    }
    let shape = Shape::new(c.unwrap_or(3), h.unwrap_or(side), w.unwrap_or(side));
    constant::product(&[shape.c, shape.h, shape.w])
        .filter(|&n| n > 0 && n <= LARGEST_MAP)
        .ok_or_else(|| {
            malformed(format!(
                "is {}x{}x{}, which is out of range",
                shape.c, shape.h, shape.w
            ))
        })?;
    notes.push(format!("input {name:?}: {shape}, {layout}"));
    let batch = extent(0)?.unwrap_or(1);
    if batch > 1 {
        notes.push(format!(
            "input {name:?}: batches of {batch} in the file, image by image here"
        ));
    }
    Ok(Layout { shape, view, batch })
}
