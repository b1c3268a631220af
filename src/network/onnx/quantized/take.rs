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
