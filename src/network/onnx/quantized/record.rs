//! What an import of a quantized model puts down beside the network.

use std::collections::{BTreeMap, HashMap};

use super::super::{Imported, proto};
use crate::network::graph::ValueId;

/// What weights or computed values are multiples of: `scale[c] * (code - zero[c])` in channel c, for codes `low..=high`.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// Smallest code.
    pub low: i64,
    /// Largest code.
    pub high: i64,
    /// One, or one per (output) channel; positive.
    pub scale: Vec<f32>,
    /// As many as scales.
    pub zero: Vec<i64>,
}

impl Steps {
    /// Those of each channel, or of all, that has some of its own: scale and zero point.
    pub fn each(&self) -> impl Iterator<Item = (f32, i64)> + '_ {
        self.scale.iter().copied().zip(self.zero.iter().copied())
    }
}

/// A quantized model as its file says it.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedModel {
    /// The file's network with dequantized weights and carriers.
    pub imported: Imported,
    /// By carrier, an index into `Network::nodes`.
    pub grids: BTreeMap<usize, Steps>,
    /// By layer, an index into `Network::nodes`; layers whose weights are floats have none.
    pub steps: BTreeMap<usize, Steps>,
}

/// Steps of a constant of the file, before it is known what reads it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Scales and zero points along the axis.
    pub steps: Steps,
    /// The axis that scales run along; `None` for a single one.
    pub axis: Option<usize>,
    /// Name of the codes.
    pub origin: String,
}

/// What an import of a quantized model knows beside the network.
#[derive(Default)]
pub struct Record<'a> {
    /// By carrier.
    pub grids: BTreeMap<usize, Steps>,
    /// By layer.
    pub steps: BTreeMap<usize, Steps>,
    /// By name of a float constant.
    pub stored: HashMap<&'a str, Stored>,
    /// By name of a constant of codes that were cut off.
    pub ranges: HashMap<&'a str, (i64, i64)>,
    /// By name of a tensor of codes, the grid that they are of.
    pub coded: HashMap<&'a str, Steps>,
    /// True once the function at the end was left out: grids after it are those of its values, and left out too.
    pub ended: bool,
}

impl Record<'_> {
    /// The model with what is known of those of its nodes that are left.
    pub fn with(mut self, imported: Imported) -> QuantizedModel {
        let nodes = imported.network.nodes.len();
        self.grids.retain(|&node, _| node < nodes);
        self.steps.retain(|&node, _| node < nodes);
        QuantizedModel {
            imported,
            grids: self.grids,
            steps: self.steps,
        }
    }

    /// True for a value, the tensor `name` of the file, that is on a grid with nothing below zero.
    pub fn is_nonnegative(&self, value: ValueId, name: &str) -> bool {
        let carried = || self.grids.get(&value.checked_sub(1)?);
        let grid = self.coded.get(name).or_else(carried);
        grid.is_some_and(|g| g.zero.iter().all(|&zero| zero == g.low))
    }

    /// True for the value of a carrier.
    pub fn is_carrier(&self, value: ValueId) -> bool {
        value
            .checked_sub(1)
            .is_some_and(|node| self.grids.contains_key(&node))
    }
}

/// True for a layer whose weights are an input as it is; of a bias or a batch norm alone they are not.
pub fn reads_weights(node: &proto::Node) -> bool {
    matches!(
        node.op_type.as_deref(),
        Some(
            "Conv"
                | "Gemm"
                | "MatMul"
                | "Mul"
                | "QLinearConv"
                | "QLinearMatMul"
                | "QGemm"
                | "ConvInteger"
                | "MatMulInteger"
        )
    )
}

/// The input that holds a layer's weights.
pub fn weight_input(node: &proto::Node) -> usize {
    match node.op_type.as_deref() {
        Some("QLinearConv" | "QLinearMatMul" | "QGemm") => 3,
        _ => 1,
    }
}

/// Operators of other domains that are read all the same.
pub fn is_known(op: &str, domain: &str) -> bool {
    match domain {
        "com.microsoft" => matches!(
            op,
            "QuantizeLinear"
                | "DequantizeLinear"
                | "QLinearAdd"
                | "QLinearMul"
                | "QLinearGlobalAveragePool"
                | "QLinearAveragePool"
                | "QLinearConcat"
                | "QLinearSoftmax"
                | "QLinearSigmoid"
                | "QGemm"
        ),
        "qonnx.custom_op.general" | "onnx.brevitas" => op == "Quant",
        _ => false,
    }
}
