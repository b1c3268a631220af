//! An architecture as data: layers with the checkpoint names of their parameters, without the weights.

use crate::network::NetworkError;
use crate::network::checkpoint::{LoadReport, Loader, StateDict};
use crate::network::fold::BatchNorm;
use crate::network::graph::{Network, ValueId};
use crate::network::op::{Activation, Conv, Linear, Op, Pad, Window};
use crate::tensor::{Shape, Tensor};

/// What a layer of a blueprint asks of its source of parameters.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// Node name, prefix of `.weight` and `.bias`.
    pub name: &'a str,
    /// Shape of the weights, output channels first.
    pub dims: &'a [usize],
    /// True when the layer has a bias of its own.
    pub bias: bool,
    /// Batch norm to fold in: checkpoint prefix and eps.
    pub norm: Option<&'a (String, f64)>,
}

/// Where a blueprint's parameters come from.
pub trait Parameters {
    /// Weights of shape `slot.dims` and one bias per output channel, batch norm folded in.
    fn layer(&mut self, slot: Slot<'_>) -> (Tensor, Vec<f32>);
}

/// Padding rule, resolved against the input's size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Padding {
    /// `p` pixels on every side (PyTorch).
    All(usize),
    /// TensorFlow's `SAME`.
    Same,
}

/// One step of a blueprint.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Node name; for layers also the prefix of `.weight` and `.bias` in the checkpoint.
    pub name: String,
    /// What to compute.
    pub kind: Kind,
    /// Values read, numbered as in [`Network`].
    pub inputs: Vec<ValueId>,
    /// Fused activation.
    pub activation: Activation,
}

/// The operations blueprints use.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Convolution.
    Conv {
        /// Output channels.
        out: usize,
        /// Kernel height and width.
        kernel: usize,
        /// Step in both directions.
        stride: usize,
        /// Zero padding.
        pad: Padding,
        /// Channel groups.
        groups: usize,
        /// True when the checkpoint has a bias for it.
        bias: bool,
        /// Batch norm to fold in: checkpoint prefix and eps.
        norm: Option<(String, f64)>,
    },
    /// Fixed 1x1 convolution that copies input channel `i` to output channel `first + i` and leaves the
    /// other outputs zero; it has no parameters in the checkpoint.
    Embed {
        /// Output channels.
        out: usize,
        /// Output channel of input channel 0.
        first: usize,
        /// Step in both directions.
        stride: usize,
    },
    /// Dense layer with bias.
    Linear {
        /// Output features.
        out: usize,
    },
    /// Residual sum.
    Add,
    /// Max pooling.
    MaxPool {
        /// Window side.
        kernel: usize,
        /// Step.
        stride: usize,
        /// Padding on every side.
        pad: usize,
    },
    /// Mean over pixels.
    GlobalAvgPool,
}

/// An architecture: input shape and steps in topological order.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// Architecture name.
    pub name: String,
    /// Shape of an input image.
    pub input: Shape,
    /// Steps; step `i` makes value `i + 1`.
    pub steps: Vec<Step>,
}

impl Blueprint {
    /// An empty blueprint.
    pub fn new(name: impl Into<String>, input: Shape) -> Self {
        Self {
            name: name.into(),
            input,
            steps: Vec::new(),
        }
    }

    /// Appends a step and returns its value.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        kind: Kind,
        inputs: &[ValueId],
        activation: Activation,
    ) -> ValueId {
        self.steps.push(Step {
            name: name.into(),
            kind,
            inputs: inputs.to_vec(),
            activation,
        });
        self.steps.len()
    }

    /// The network with the checkpoint's weights, and the report of how they fit. Where a tensor does not
    /// fit, zeros stand in: use the network only when the report is clean. Names in the checkpoint begin with `prefix`.
    pub fn load(
        &self,
        dict: &StateDict,
        prefix: &str,
    ) -> Result<(Network, LoadReport), NetworkError> {
        let mut loader = Loader::new(dict, prefix);
        let network = self.build(&mut loader)?;
        Ok((network, loader.finish()))
    }

    /// The network with all parameters zero: shapes and counts without a checkpoint.
    pub fn skeleton(&self) -> Result<Network, NetworkError> {
        self.build(&mut Zeros)
    }

    /// True when the checkpoint has the weights of the first layer under this blueprint's name and that prefix.
    pub fn begins(&self, dict: &StateDict, prefix: &str) -> bool {
        let named = |s: &&Step| matches!(s.kind, Kind::Conv { .. } | Kind::Linear { .. });
        let first = self.steps.iter().find(named);
        first.is_some_and(|s| {
            let name = format!("{prefix}{}.weight", s.name);
            dict.tensors.contains_key(&name)
        })
    }

    /// Name of the classifier: the dense layer at the end, if there is one.
    pub fn classifier(&self) -> Option<&str> {
        let last = self.steps.last()?;
        matches!(last.kind, Kind::Linear { .. }).then_some(last.name.as_str())
    }

    /// The network with the parameters of `source`.
    pub fn build(&self, source: &mut dyn Parameters) -> Result<Network, NetworkError> {
        let mut network = Network::new(&self.name, self.input);
        for step in &self.steps {
            let first = step.inputs.first().copied().unwrap_or_default();
            let input = network.shape(first);
            let op = match &step.kind {
                Kind::Conv {
                    out,
                    kernel,
                    stride,
                    pad,
                    groups,
                    bias,
                    norm,
                } => {
                    let dims = [*out, input.c / groups, *kernel, *kernel];
                    let (weight, bias) = source.layer(Slot {
                        name: &step.name,
                        dims: &dims,
                        bias: *bias,
                        norm: norm.as_ref(),
                    });
                    let pad = match pad {
                        Padding::All(p) => Pad::all(*p),
                        Padding::Same => Pad::same((input.h, input.w), [*kernel; 2], [*stride; 2]),
                    };
                    Op::Conv(Conv {
                        weight,
                        bias,
                        stride: [*stride; 2],
                        pad,
                        dilation: [1, 1],
                        groups: *groups,
                    })
                }
                Kind::Embed { out, first, stride } => Op::Conv(Conv {
                    weight: embedding(input.c, *out, *first),
                    bias: vec![0.0; *out],
                    stride: [*stride; 2],
                    pad: Pad::default(),
                    dilation: [1, 1],
                    groups: 1,
                }),
                Kind::Linear { out } => {
                    let (weight, bias) = source.layer(Slot {
                        name: &step.name,
                        dims: &[*out, input.c],
                        bias: true,
                        norm: None,
                    });
                    Op::Linear(Linear { weight, bias })
                }
                Kind::Add => Op::Add,
                Kind::MaxPool {
                    kernel,
                    stride,
                    pad,
                } => Op::MaxPool(Window {
                    kernel: [*kernel; 2],
                    stride: [*stride; 2],
                    pad: Pad::all(*pad),
                }),
                Kind::GlobalAvgPool => Op::GlobalAvgPool,
            };
            network.push(&step.name, op, &step.inputs, step.activation)?;
        }
        Ok(network)
    }
}

/// `[out, channels, 1, 1]` with ones at `[first + i, i]`.
fn embedding(channels: usize, out: usize, first: usize) -> Tensor {
    let mut weight = Tensor::zeros([out, channels, 1, 1]);
    for i in 0..channels.min(out.saturating_sub(first)) {
        weight.data_mut()[(first + i) * channels + i] = 1.0;
    }
    weight
}

/// All parameters zero.
struct Zeros;

impl Parameters for Zeros {
    fn layer(&mut self, slot: Slot<'_>) -> (Tensor, Vec<f32>) {
        (Tensor::zeros(slot.dims), vec![0.0; slot.dims[0]])
    }
}

impl Parameters for Loader<'_> {
    fn layer(&mut self, slot: Slot<'_>) -> (Tensor, Vec<f32>) {
        let out = slot.dims[0];
        let mut weight = self.take(&format!("{}.weight", slot.name), slot.dims);
        let mut bias = if slot.bias {
            self.take(&format!("{}.bias", slot.name), &[out])
                .into_data()
        } else {
            vec![0.0; out]
        };
        if let Some((prefix, eps)) = slot.norm {
            let mut get = |part: &str| self.take(&format!("{prefix}.{part}"), &[out]).into_data();
            let norm = BatchNorm {
                weight: get("weight"),
                bias: get("bias"),
                mean: get("running_mean"),
                var: get("running_var"),
                eps: *eps,
            };
            if let Err(why) = norm.fold_into(&mut weight, &mut bias) {
                self.unfoldable(prefix, why);
            }
        }
        (weight, bias)
    }
}
