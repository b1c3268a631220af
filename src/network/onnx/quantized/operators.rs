//! Operators on integers: convolutions and the like that read codes and write codes. Each is the plain operator on the
//! values that the codes stand for, then the output's grid.

use super::super::attributes::Attributes;
use super::super::importer::{Importer, Item, Value, View};
use super::super::proto;
use super::codes::Parameters;
use super::record::Steps;
use crate::network::op::{Activation, Op};

/// Extents, values, and the scale of each row, or of all.
type Weights = (Vec<usize>, Vec<f32>, Vec<f32>);

impl<'a> Importer<'a> {
    /// The grid of the codes at input `i`.
    fn grid_of(&self, node: &'a proto::Node, i: usize) -> Result<Steps, String> {
        let name = self.input(node, i).unwrap_or_default();
        let made = self.record.as_ref().and_then(|r| r.coded.get(name));
        made.cloned()
            .ok_or_else(|| format!("input {name:?} is no computed tensor of codes"))
    }

    /// The value at input `i`, whose codes must be those of the parameters at the next two inputs.
    fn operand(&self, node: &'a proto::Node, i: usize) -> Result<(Value, f32), String> {
        let name = self.input(node, i).unwrap_or_default();
        let made = self.grid_of(node, i)?;
        let value = self.padded_value(node, i)?;
        let p = self.parameters_of_value(node, (i + 1, 1), value)?;
        p.made_with(&made).map_err(|e| format!("{name:?}: {e}"))?;
        match made.scale[..] {
            [scale] => Ok((value, scale)),
            _ => Err(format!(
                "reads {name:?}, which has a grid for each channel; operators on codes know one for all"
            )),
        }
    }

    /// The weights whose codes are input 3: extents, values, and the scale of each of the `rows` along `axis`.
    fn coded_weights(&mut self, node: &'a proto::Node, axis: i64) -> Result<Weights, String> {
        let (dims, kind) = self.codes(node, 3)?;
        let p = self.parameters(node, 4, &dims, axis)?;
        let floats = self.dequantized(node, 3, &p)?;
        let scale = p.scale.clone();
        if let Some(name) = node.input.get(3) {
            self.remember(name, (node, 3), (kind, p))?;
        }
        // The layer is charged for them.
        self.give(floats.bytes());
        Ok((dims, floats.into_floats().unwrap_or_default(), scale))
    }

    /// Bias `i` of `out` channels, in units of the input's scale times the weights'.
    fn coded_bias(
        &self,
        node: &'a proto::Node,
        i: usize,
        (out, input, weight): (usize, f32, &[f32]),
    ) -> Result<Vec<f32>, String> {
        let Some(bias) = self.optional(node, i)? else {
            return Ok(vec![0.0; out]);
        };
        let codes = bias.integers().filter(|c| c.len() == out);
        let codes = codes.ok_or_else(|| format!("its bias is no list of {out} integers"))?;
        let scale = |o: usize| input * weight[o % weight.len()];
        Ok(codes
            .iter()
            .enumerate()
            .map(|(o, &c)| c as f32 * scale(o))
            .collect())
    }

    /// Puts the node's output, which was pushed last, on the grid at input `scale`.
    fn put_on_grid(&mut self, node: &'a proto::Node, scale: usize) -> Result<(), String> {
        let value = self.made(node)?;
        let grid = self.grid(node, (scale, 1), value)?;
        self.carry(node, value, grid)
    }

    pub(super) fn qlinear_conv(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let (value, input) = self.operand(node, 0)?;
        let (dims, weights, scale) = self.coded_weights(node, 0)?;
        let out = *dims.first().ok_or("its weights are a single number")?;
        let bias = self.coded_bias(node, 8, (out, input, &scale))?;
        self.convolution(node, value, &dims, weights, bias)?;
        self.put_on_grid(node, 6)
    }

    /// `ConvInteger` and `MatMulInteger`: the layer on codes less their zero points, a number of units of the input's step,
    /// which a later factor gives the weights' scales.
    pub(super) fn integer_layer(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        let made = self.grid_of(node, 0)?;
        let zero = match self.optional(node, 2)?.map(|c| c.integers()) {
            None => 0,
            Some(Some(&[zero])) => zero,
            Some(_) => return Err("its input has several zero points; one is known".into()),
        };
        let &[scale] = &made.scale[..] else {
            return Err("its input has a grid for each channel; one for all is known".into());
        };
        if [zero] != made.zero[..] {
            return Err(format!(
                "reads codes with zero point {zero} that were made with {}",
                made.zero[0]
            ));
        }
        let value = self.padded_value(node, 0)?;
        let (dims, kind) = self.codes(node, 1)?;
        let zeros = match self.optional(node, 3)? {
            None => vec![0],
            Some(c) => c
                .integers()
                .ok_or("its zero points must be integers")?
                .to_vec(),
        };
        let rows = usize::from(op == "MatMulInteger");
        let several = zeros.len() > 1;
        if zeros.is_empty() || several && dims.get(rows) != Some(&zeros.len()) {
            return Err(format!(
                "{} zero points for weights of shape {dims:?}",
                zeros.len()
            ));
        }
        let p = Parameters {
            scale: vec![1.0; zeros.len()],
            zero: zeros,
            axis: several.then_some(rows),
            kind: None,
        };
        let floats = self.dequantized(node, 1, &p)?;
        if let Some(name) = node.input.get(1) {
            self.remember(name, (node, 1), (kind, p))?;
        }
        // The layer is charged for them.
        self.give(floats.bytes());
        let weights = floats.into_floats().unwrap_or_default();
        let out = match op {
            "ConvInteger" => {
                let out = *dims.first().ok_or("its weights are a single number")?;
                self.convolution(node, value, &dims, weights, vec![0.0; out])?;
                out
            }
            _ => {
                let matrix = super::super::layers::matrix_of(&dims, weights, false)?;
                let out = matrix.dims()[0];
                self.dense(node, value, matrix, vec![0.0; out])?;
                out
            }
        };
        let units = self.made(node)?;
        self.affine(node, units, &vec![(1.0 / f64::from(scale), 0.0); out])
    }

    pub(super) fn qlinear_matmul(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let (value, _) = self.operand(node, 0)?;
        let (dims, weights, _) = self.coded_weights(node, 1)?;
        let matrix = super::super::layers::matrix_of(&dims, weights, false)?;
        let out = matrix.dims()[0];
        self.dense(node, value, matrix, vec![0.0; out])?;
        self.put_on_grid(node, 6)
    }

    pub(super) fn qgemm(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let attributes = Attributes(&node.attribute);
        if attributes.flag("transA") || attributes.float("alpha").is_some_and(|a| a != 1.0) {
            return Err("transA and alpha other than 1 are not known".into());
        }
        let transposed = attributes.flag("transB");
        let (value, input) = self.operand(node, 0)?;
        let (dims, weights, scale) = self.coded_weights(node, i64::from(!transposed))?;
        let matrix = super::super::layers::matrix_of(&dims, weights, transposed)?;
        let bias = self.coded_bias(node, 6, (matrix.dims()[0], input, &scale))?;
        self.dense(node, value, matrix, bias)?;
        match self.input(node, 7) {
            Some(_) => self.put_on_grid(node, 7),
            // Without an output scale the result is a float.
            None => Ok(()),
        }
    }

    /// `QLinearAdd` and `QLinearMul`: of two values, or of a value and a constant for each channel.
    pub(super) fn qlinear_arithmetic(
        &mut self,
        op: &str,
        node: &'a proto::Node,
    ) -> Result<(), String> {
        let constant =
            |&i: &usize| matches!(self.item(node, i), Ok(Item::Constant(_) | Item::Stored(_)));
        if let Some(fixed) = [0, 3].into_iter().find(constant) {
            let (value, _) = self.operand(node, 3 - fixed)?;
            let (dims, _) = self.codes(node, fixed)?;
            let p = self.parameters(node, fixed + 1, &dims, 1)?;
            let constants = self.dequantized(node, fixed, &p)?;
            self.give(constants.bytes());
            let floats = constants.into_floats().unwrap_or_default();
            let each = self.broadcast(&dims, &floats, value)?.into_iter();
            let map: Vec<(f64, f64)> = match op {
                "QLinearAdd" => each.map(|c| (1.0, c)).collect(),
                _ => each.map(|c| (c, 0.0)).collect(),
            };
            self.affine(node, value, &map)?;
            return self.put_on_grid(node, 6);
        }
        let ((a, _), (b, _)) = (self.operand(node, 0)?, self.operand(node, 3)?);
        match op {
            "QLinearMul" => self.product_of(node, (a, b))?,
            _ if a.view != b.view => return Err("its operands are laid out differently".into()),
            _ => self.push(node, Op::Add, &[a.id, b.id], Activation::Identity, a.view)?,
        }
        self.put_on_grid(node, 6)
    }

    /// `QLinearSigmoid` in the middle of a network.
    pub(super) fn qlinear_sigmoid(&mut self, node: &'a proto::Node) -> Result<(), String> {
        self.operand(node, 0)?;
        self.smooth("Sigmoid", node)?;
        self.put_on_grid(node, 3)
    }

    pub(super) fn qlinear_concat(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let parts: Result<Vec<(Value, f32)>, String> = (2..node.input.len())
            .step_by(3)
            .map(|i| self.operand(node, i))
            .collect();
        let parts = parts?;
        let maps = parts.iter().all(|(v, _)| v.view == View::Map);
        if !maps || Attributes(&node.attribute).int("axis") != Some(1) {
            return Err("joins something else than the channels of NCHW maps".into());
        }
        let ids: Vec<usize> = parts.iter().map(|(v, _)| v.id).collect();
        self.push(node, Op::Concat, &ids, Activation::Identity, View::Map)?;
        self.put_on_grid(node, 0)
    }

    pub(super) fn qlinear_pool(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        if Attributes(&node.attribute).flag("channels_last") {
            return Err("its input is no NCHW map".into());
        }
        self.operand(node, 0)?;
        match op {
            "QLinearAveragePool" => self.average_pool(node)?,
            _ => self.global_average(node)?,
        }
        self.put_on_grid(node, 3)
    }
}
