//! Writing ONNX models: nodes and constants one by one, then the bytes.

use prost::Message;

use super::proto;
use crate::tensor::Shape;

/// Element types by their numbers in the standard.
const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const UINT16: i32 = 4;
const INT64: i32 = 7;

/// A setting of a node.
pub enum Setting<'a> {
    /// An integer.
    Int(&'a str, i64),
    /// Integers.
    Ints(&'a str, Vec<i64>),
    /// A float.
    Float(&'a str, f32),
}

/// A graph under construction.
#[derive(Default)]
pub struct Writer {
    graph: proto::Graph,
    made: usize,
}

impl Writer {
    /// A node; returns the name of its output.
    pub fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        settings: Vec<Setting<'_>>,
    ) -> String {
        self.made += 1;
        let output = format!("{name}:{}", self.made);
        self.graph.node.push(proto::Node {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.clone()],
            name: Some(output.clone()),
            op_type: Some(op.into()),
            attribute: settings.into_iter().map(attribute).collect(),
            domain: None,
        });
        output
    }

    fn constant(&mut self, name: String, dims: &[usize], kind: i32, bytes: Vec<u8>) -> String {
        self.graph.initializer.push(proto::Tensor {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: Some(kind),
            name: Some(name.clone()),
            raw_data: Some(bytes.into()),
            ..proto::Tensor::default()
        });
        name
    }

    /// Floats.
    pub fn floats(&mut self, name: String, dims: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, dims, FLOAT, bytes)
    }

    /// Codes: of 8 bits where `bits` are no more, else of 16.
    pub fn codes(&mut self, name: String, dims: &[usize], values: &[u16], bits: u32) -> String {
        match bits {
            ..=8 => self.constant(name, dims, UINT8, values.iter().map(|&v| v as u8).collect()),
            _ => {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                self.constant(name, dims, UINT16, bytes)
            }
        }
    }

    /// 64-bit integers.
    pub fn integers(&mut self, name: String, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, &[values.len()], INT64, bytes)
    }

    /// The model from `input` to `output`, for operator set `opset`.
    pub fn finish(
        mut self,
        name: &str,
        opset: i64,
        input: (&str, Shape),
        output: (&str, Shape, usize),
    ) -> Vec<u8> {
        let (x, shape) = input;
        let dims = [shape.c, shape.h, shape.w];
        self.graph.input = vec![info(x, &dims)];
        let (y, shape, rank) = output;
        let dims = [shape.c, shape.h, shape.w];
        self.graph.output = vec![info(y, &dims[..rank - 1])];
        self.graph.name = Some(name.into());
        let model = proto::Model {
            ir_version: Some(if opset > 20 { 10 } else { 8 }),
            producer_name: Some("quantbound".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: Some(self.graph),
            opset_import: vec![proto::OperatorSet {
                domain: None,
                version: Some(opset),
            }],
        };
        model.encode_to_vec()
    }
}

fn attribute(setting: Setting<'_>) -> proto::Attribute {
    let (name, kind) = match &setting {
        Setting::Float(name, _) => (name.to_string(), 1),
        Setting::Int(name, _) => (name.to_string(), 2),
        Setting::Ints(name, _) => (name.to_string(), 7),
    };
    let mut attribute = proto::Attribute {
        name: Some(name),
        kind: Some(kind),
        ..proto::Attribute::default()
    };
    match setting {
        Setting::Float(_, x) => attribute.f = Some(x),
        Setting::Int(_, i) => attribute.i = Some(i),
        Setting::Ints(_, ints) => attribute.ints = ints,
    }
    attribute
}

/// Floats `[N, dims...]`.
fn info(name: &str, dims: &[usize]) -> proto::ValueInfo {
    let batch = proto::Dimension {
        value: None,
        param: Some("N".into()),
    };
    let fixed = dims.iter().map(|&d| proto::Dimension {
        value: Some(d as i64),
        param: None,
    });
    proto::ValueInfo {
        name: Some(name.into()),
        r#type: Some(proto::Type {
            tensor_type: Some(proto::TensorType {
                elem_type: Some(FLOAT),
                shape: Some(proto::TensorShape {
                    dim: std::iter::once(batch).chain(fixed).collect(),
                }),
            }),
        }),
    }
}
