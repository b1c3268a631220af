//! What a network computes, as a hash: the same for the same folded tensors and graph, whatever file they came from.

use super::{Activation, Network, Op, Pad, Window};
use crate::tensor::Tensor;

impl Network {
    /// BLAKE3 over the input's shape and every node's name, operation, inputs, activation and values, bit by bit, in
    /// hexadecimal. The network's own name and the container of its weights do not enter.
    pub fn content(&self) -> String {
        let mut hash = Content(blake3::Hasher::new());
        hash.sizes(&[self.input.c, self.input.h, self.input.w, self.nodes.len()]);
        for node in &self.nodes {
            hash.text(&node.name);
            hash.op(&node.op);
            hash.sizes(&node.inputs);
            hash.text(match node.activation {
                Activation::Identity => "identity",
                Activation::Relu => "relu",
                Activation::Relu6 => "relu6",
            });
        }
        hash.0.finalize().to_hex().to_string()
    }
}

struct Content(blake3::Hasher);

impl Content {
    fn sizes(&mut self, sizes: &[usize]) {
        self.0.update(&(sizes.len() as u64).to_le_bytes());
        for &size in sizes {
            self.0.update(&(size as u64).to_le_bytes());
        }
    }

    fn text(&mut self, text: &str) {
        self.sizes(&[text.len()]);
        self.0.update(text.as_bytes());
    }

    fn values(&mut self, values: &[f32]) {
        self.sizes(&[values.len()]);
        // Little-endian, whatever the machine.
        for some in values.chunks(1 << 14) {
            let bytes: Vec<u8> = some.iter().flat_map(|v| v.to_le_bytes()).collect();
            self.0.update(&bytes);
        }
    }

    fn tensor(&mut self, tensor: &Tensor) {
        self.sizes(tensor.dims());
        self.values(tensor.data());
    }

    fn window(&mut self, window: &Window) {
        self.sizes(&window.kernel);
        self.sizes(&window.stride);
        self.pad(&window.pad);
    }

    fn pad(&mut self, pad: &Pad) {
        self.sizes(&[pad.top, pad.left, pad.bottom, pad.right]);
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Conv(c) => {
                self.text("conv");
                self.tensor(&c.weight);
                self.values(&c.bias);
                self.sizes(&c.stride);
                self.pad(&c.pad);
                self.sizes(&c.dilation);
                self.sizes(&[c.groups]);
            }
            Op::Linear(l) => {
                self.text("linear");
                self.tensor(&l.weight);
                self.values(&l.bias);
            }
            Op::Add => self.text("add"),
            Op::MaxPool(window) => {
                self.text("max-pool");
                self.window(window);
            }
            Op::AvgPool {
                window,
                count_include_pad,
            } => {
                self.text("avg-pool");
                self.window(window);
                self.sizes(&[usize::from(*count_include_pad)]);
            }
            Op::GlobalAvgPool => self.text("global-avg-pool"),
            Op::Flatten => self.text("flatten"),
            Op::Concat => self.text("concat"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::synthetic::random_network;
    use crate::network::zoo;

    #[test]
    fn one_bit_one_name_or_one_cap_is_another_network_and_the_architecture_name_is_not() {
        let blueprint = zoo::Model::find("mobilenet_v1").unwrap().standard();
        let network = random_network(&blueprint, 1).unwrap().network;
        let id = network.content();
        let renamed = Network {
            name: "other".into(),
            ..network.clone()
        };
        assert_eq!(renamed.content(), id);
        let changes: [fn(&mut Network); 5] = [
            |n| {
                let bias = n.nodes[0].bias_mut().unwrap();
                bias[0] = f32::from_bits(bias[0].to_bits() ^ 1);
            },
            |n| n.nodes[0].weight_mut().unwrap().data_mut()[3] *= 2.0,
            |n| n.nodes[1].name.push('x'),
            |n| n.nodes[0].activation = Activation::Relu,
            |n| {
                if let Op::Conv(c) = &mut n.nodes[0].op {
                    c.stride = [1, 2];
                }
            },
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut other = network.clone();
            change(&mut other);
            assert_ne!(other.content(), id, "change {i}");
        }
    }
}
