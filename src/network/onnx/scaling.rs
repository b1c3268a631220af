//! Affine maps per channel: batch norms and constant factors.

use super::importer::{Importer, Value, label};
use super::proto;
use crate::network::graph::INPUT;
use crate::network::op::{Activation, Conv, Op, Pad};
use crate::tensor::Tensor;

impl<'a> Importer<'a> {
    /// `scale * value + shift` per channel: in the layer that makes the value where nothing else reads it, else as
    /// a depthwise 1x1 layer.
    pub fn affine(
        &mut self,
        node: &'a proto::Node,
        value: Value,
        map: &[(f64, f64)],
    ) -> Result<(), String> {
        const CHANNELS: usize = 1 << 20;
        if value.pad != Pad::default() {
            return Err(
                "reads a padded map; only convolutions and pooling may follow a Pad".into(),
            );
        }
        let finite = "the folded weights are not finite";
        if map.len() > CHANNELS {
            return Err(format!("{} channels are too many", map.len()));
        }
        let maker = value.id.checked_sub(1).filter(|_| value.exclusive);
        if let Some(i) = maker
            && self.network.nodes[i].is_layer()
            && self.network.nodes[i].activation == Activation::Identity
        {
            let maker = &mut self.network.nodes[i];
            if let Some(weight) = maker.weight_mut() {
                let row = weight.data().len() / map.len().max(1);
                for (o, &(scale, _)) in map.iter().enumerate().filter(|(_, m)| m.0 != 1.0) {
                    for w in &mut weight.data_mut()[o * row..(o + 1) * row] {
                        *w = (f64::from(*w) * scale) as f32;
                    }
                }
                if weight.data().iter().any(|w| !w.is_finite()) {
                    return Err(finite.into());
                }
            }
            if let Some(bias) = maker.bias_mut() {
                for (b, &(scale, shift)) in bias.iter_mut().zip(map) {
                    *b = (f64::from(*b) * scale + shift) as f32;
                }
                if bias.iter().any(|b| !b.is_finite()) {
                    return Err(finite.into());
                }
            }
            self.rescale_steps(i, map)?;
            self.computes(value.id, node);
            return self.set(node, value);
        }
        if map
            .iter()
            .any(|m| !(m.0 as f32).is_finite() || !(m.1 as f32).is_finite())
        {
            return Err(finite.into());
        }
        if value.id == INPUT {
            self.scaled_input = true;
        }
        self.notes.push(format!(
            "node {} stands alone: it is a depthwise 1x1 layer here",
            label(node)
        ));
        let scales: Vec<f32> = map.iter().map(|m| m.0 as f32).collect();
        let layer = Conv {
            weight: Tensor::new([map.len(), 1, 1, 1], scales).ok_or("too many channels")?,
            bias: map.iter().map(|m| m.1 as f32).collect(),
            stride: [1, 1],
            pad: Pad::default(),
            dilation: [1, 1],
            groups: map.len(),
        };
        self.push(
            node,
            Op::Conv(layer),
            &[value.id],
            Activation::Identity,
            value.view,
        )
    }

    /// `Neg`.
    pub(super) fn negate(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        let channels = self.shape(value).c;
        self.affine(node, value, &vec![(-1.0, 0.0); channels])
    }
}
