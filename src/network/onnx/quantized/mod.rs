//! Import of models that another tool quantized: integer codes, their scales, and the grids that activations are put on.
//!
//! The file becomes a network of its own. Its layers hold the dequantized weights, with the steps that they are
//! multiples of beside them; every `QuantizeLinear` of a computed value becomes a 1x1 max pooling, a *carrier*, whose
//! output is put on a grid. Nothing is merged into a carrier, so that the order of grids and activations stays the file's.

mod brevitas;
mod codes;
mod linear;
mod operators;

pub(super) use linear::weight_input;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::importer::Importer;
use super::{Imported, OnnxError, proto};
use crate::network::NetworkError;
use crate::network::graph::ValueId;

/// The grid of a computed value, per tensor: `scale * (code - zero)` for codes `low..=high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Smallest code.
    pub low: i64,
    /// Largest code.
    pub high: i64,
    /// Code of zero.
    pub zero: i64,
    /// Distance of neighbours, positive.
    pub scale: f32,
}

/// What a layer's weights are multiples of: `scale[o] * (code - zero[o])` for codes `low..=high`.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// Smallest code.
    pub low: i64,
    /// Largest code.
    pub high: i64,
    /// One, or one per output channel; positive.
    pub scale: Vec<f32>,
    /// As many as scales.
    pub zero: Vec<i64>,
}

/// A quantized model as its file says it.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedModel {
    /// The file's network with dequantized weights and carriers.
    pub imported: Imported,
    /// By carrier, an index into `Network::nodes`.
    pub grids: BTreeMap<usize, Grid>,
    /// By layer, an index into `Network::nodes`; layers whose weights are floats have none.
    pub steps: BTreeMap<usize, Steps>,
}

/// Steps of a constant of the file, before it is known what reads it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    steps: Steps,
    /// The axis that scales run along; `None` for a single one.
    axis: Option<usize>,
    /// Name of the codes.
    origin: String,
}

/// What an import of a quantized model knows beside the network.
#[derive(Default)]
pub(super) struct Record<'a> {
    grids: BTreeMap<usize, Grid>,
    steps: BTreeMap<usize, Steps>,
    /// By name of a float constant.
    stored: HashMap<&'a str, Stored>,
    /// By name of a constant of codes that were cut off.
    ranges: HashMap<&'a str, (i64, i64)>,
    /// By name of a tensor of codes, the grid that they are of.
    coded: HashMap<&'a str, Grid>,
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

    /// True for the value of a carrier.
    pub fn is_carrier(&self, value: ValueId) -> bool {
        value
            .checked_sub(1)
            .is_some_and(|node| self.grids.contains_key(&node))
    }
}

/// Imports the quantized model at `path`; `side` as for [`super::import_file`].
pub fn import_quantized_file(
    path: &Path,
    side: Option<usize>,
) -> Result<QuantizedModel, NetworkError> {
    let file = |problem: String| NetworkError::File {
        path: path.display().to_string(),
        problem,
    };
    let bytes = std::fs::read(path).map_err(|e| file(format!("cannot be read ({e})")))?;
    let mut model =
        import_quantized(&bytes, path.parent(), side).map_err(|e| file(e.to_string()))?;
    if let Some(stem) = path.file_stem() {
        model.imported.network.name = stem.to_string_lossy().into_owned();
    }
    Ok(model)
}

/// Imports a quantized model from its bytes; one without any codes or grids is a plain network.
pub fn import_quantized(
    bytes: &[u8],
    folder: Option<&Path>,
    side: Option<usize>,
) -> Result<QuantizedModel, OnnxError> {
    super::read(bytes, folder, side, true)
}

/// Operators of other domains that are read all the same.
pub(super) fn is_known(op: &str, domain: &str) -> bool {
    match domain {
        "com.microsoft" => matches!(
            op,
            "QuantizeLinear"
                | "DequantizeLinear"
                | "QLinearAdd"
                | "QLinearGlobalAveragePool"
                | "QLinearAveragePool"
                | "QLinearConcat"
                | "QGemm"
        ),
        "qonnx.custom_op.general" | "onnx.brevitas" => op == "Quant",
        _ => false,
    }
}

impl<'a> Importer<'a> {
    /// Takes in a node of a quantized model; false for nodes that are like those of any other.
    pub(super) fn quantized_node(
        &mut self,
        op: &str,
        node: &'a proto::Node,
    ) -> Result<bool, String> {
        if self.record.is_none() {
            return Ok(false);
        }
        match op {
            "QuantizeLinear" => self.quantize_linear(node)?,
            "DequantizeLinear" => self.dequantize_linear(node)?,
            "Quant" => self.quant(node)?,
            "QLinearConv" => self.qlinear_conv(node)?,
            "QLinearMatMul" => self.qlinear_matmul(node)?,
            "QGemm" => self.qgemm(node)?,
            "QLinearAdd" => self.qlinear_add(node)?,
            "QLinearConcat" => self.qlinear_concat(node)?,
            "QLinearGlobalAveragePool" | "QLinearAveragePool" => self.qlinear_pool(op, node)?,
            "DynamicQuantizeLinear" | "DynamicQuantizeMatMul" => {
                return Err(
                    "finds its grid for each image anew (dynamic quantization): quantize with fixed grids"
                        .into(),
                );
            }
            "Clip" => return self.clip_codes(node),
            _ => return self.hand_on(op, node),
        }
        Ok(true)
    }
}
