//! A network of an ONNX file, with its codes and grids.

use std::path::Path;

use crate::experiment::error::SweepError;
use crate::network::onnx::{QuantizedModel, Steps, import_quantized_file, is_model};
use crate::network::skeleton::Side;
use crate::network::{Network, NetworkError, ValueId};
use crate::quant::QuantizedNetwork;
use crate::quant::imported::own;

/// A network as its file says it, codes and grids included.
#[derive(Clone, Debug)]
pub struct File {
    model: QuantizedModel,
    /// Codes and grids of its own network.
    pub(super) quantized: QuantizedNetwork,
}

impl File {
    /// Reads an ONNX file, quantized or not.
    pub fn open(path: &Path, side: Option<usize>) -> Result<Self, SweepError> {
        let model = import_quantized_file(path, side).map_err(|error| {
            match path.is_file() && !is_model(path) {
                true => NetworkError::File {
                    path: path.display().to_string(),
                    problem: "is no ONNX model, which alone are compared; `quantbound quantize --format qdq-onnx` writes a \
                              network as one"
                        .into(),
                },
                false => error,
            }
        })?;
        let quantized = own(&model).map_err(|problem| NetworkError::File {
            path: path.display().to_string(),
            problem,
        })?;
        Ok(Self { model, quantized })
    }

    /// The network, with dequantized weights.
    pub fn network(&self) -> &Network {
        &self.model.imported.network
    }

    /// What its import had to say.
    pub fn notes(&self) -> &[String] {
        &self.model.imported.notes
    }

    /// True where anything in it is on a grid.
    pub fn has_grids(&self) -> bool {
        !(self.model.steps.is_empty() && self.model.grids.is_empty())
    }

    pub(super) fn side(&self) -> Side<'_> {
        Side {
            network: self.network(),
            grids: &self.model.grids,
        }
    }

    /// Name of a value's tensor in the file.
    pub(super) fn tensor(&self, value: ValueId) -> String {
        let name = value
            .checked_sub(1)
            .and_then(|i| self.model.imported.tensors.get(i));
        name.cloned().unwrap_or_default()
    }

    /// What a layer's weights are multiples of, where they are codes.
    pub(super) fn steps(&self, node: usize) -> Option<&Steps> {
        self.model.steps.get(&node)
    }

    /// Distances of neighbours on the grids that nodes put their outputs on, in order: one, or one for each channel.
    pub(super) fn grid_steps(&self, nodes: &[usize]) -> Vec<Vec<f64>> {
        let grids = nodes.iter().filter_map(|i| self.model.grids.get(i));
        let wide = |scale: &[f32]| scale.iter().map(|&s| f64::from(s)).collect();
        grids.map(|g| wide(&g.scale)).collect()
    }
}
