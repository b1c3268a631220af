//! Which operator of a quantized model is taken in by whom.

use super::super::importer::Importer;
use super::super::proto;

impl<'a> Importer<'a> {
    /// Takes in a node of a quantized model; false for nodes that are like those of any other.
    pub fn quantized_node(&mut self, op: &str, node: &'a proto::Node) -> Result<bool, String> {
        if self.record.is_none() {
            return Ok(false);
        }
        match op {
            "Quant" => self.quant(node)?,
            "QLinearConv" => self.qlinear_conv(node)?,
            "QLinearMatMul" => self.qlinear_matmul(node)?,
            "QGemm" => self.qgemm(node)?,
            "ConvInteger" | "MatMulInteger" => self.integer_layer(op, node)?,
            "QLinearAdd" | "QLinearMul" => self.qlinear_arithmetic(op, node)?,
            "QLinearConcat" => self.qlinear_concat(node)?,
            "QLinearGlobalAveragePool" | "QLinearAveragePool" => self.qlinear_pool(op, node)?,
            "QuantizeLinear" | "DequantizeLinear" if self.has_ended(node) => {
                let value = self.unfinished_value(node, 0)?;
                self.set(node, value)?;
            }
            "QuantizeLinear" => self.quantize_linear(node)?,
            "DequantizeLinear" => self.dequantize_linear(node)?,
            "QLinearSoftmax" | "QLinearSigmoid" if self.ends(node) => {
                self.drop_last(op.trim_start_matches("QLinear"), node)?;
            }
            "QLinearSigmoid" => self.qlinear_sigmoid(node)?,
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

    /// True for a node that reads what would have been the value of a function that was left out.
    fn has_ended(&self, node: &'a proto::Node) -> bool {
        self.record.as_ref().is_some_and(|r| r.ended) && !self.is_constant(node, 0)
    }
}
