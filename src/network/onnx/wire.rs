//! What a file would take in memory once decoded, told from its bytes alone.
//!
//! An empty message is two bytes in a file and some hundred in memory, so a file of messages is weighed before it is
//! decoded. The same walk tells an ONNX model from any other file.

use super::proto;

/// Message types whose parts are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    TensorShape,
    /// No messages inside.
    Leaf,
}

/// What a field holds: messages of a type, with the bytes that one takes in memory; or plain data.
enum Field {
    Message(Message, usize),
    /// Numbers or text: bytes in memory for each byte in the file.
    Plain(usize),
}

fn field(message: Message, number: u64) -> Field {
    use std::mem::size_of;
    let (kind, size) = match (message, number) {
        (Message::Model, 7) => (Message::Graph, size_of::<proto::Graph>()),
        (Message::Model, 8) => (Message::Leaf, size_of::<proto::OperatorSet>()),
        (Message::Graph, 1) => (Message::Node, size_of::<proto::Node>()),
        (Message::Graph, 5) | (Message::Attribute, 5) => {
            (Message::Tensor, size_of::<proto::Tensor>())
        }
        (Message::Graph, 11 | 12) => (Message::Value, size_of::<proto::ValueInfo>()),
        (Message::Node, 1 | 2) => (Message::Leaf, size_of::<String>()),
        (Message::Node, 5) => (Message::Attribute, size_of::<proto::Attribute>()),
        (Message::Tensor, 13) => (Message::Leaf, size_of::<proto::Entry>()),
        (Message::Value, 2) => (Message::Type, size_of::<proto::Type>()),
        (Message::Type, 1) => (Message::TensorType, size_of::<proto::TensorType>()),
        (Message::TensorType, 2) => (Message::TensorShape, size_of::<proto::TensorShape>()),
        (Message::TensorShape, 1) => (Message::Leaf, size_of::<proto::Dimension>()),
        // Numbers that may be as short as a byte each in the file.
        (Message::Attribute, 8) | (Message::Tensor, 1 | 5 | 7 | 11) => return Field::Plain(8),
        _ => return Field::Plain(1),
    };
    Field::Message(kind, size)
}

/// A base-128 number, and the bytes after it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// One field: number, wire type, content, and the bytes after it.
fn next(bytes: &[u8]) -> Option<(u64, u64, &[u8], &[u8])> {
    let (key, rest) = varint(bytes)?;
    let (number, wire) = (key >> 3, key & 7);
    let size = match wire {
        0 => rest.len() - varint(rest)?.1.len(),
        1 => 8,
        5 => 4,
        2 => {
            let (len, rest) = varint(rest)?;
            let (content, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            return Some((number, wire, content, rest));
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(size)?;
    Some((number, wire, content, rest))
}

/// Bytes that the parts of a message take in memory, those of the message itself aside; `None` for damaged ones.
fn weigh(message: Message, mut bytes: &[u8]) -> Option<usize> {
    let mut sum = 0usize;
    while !bytes.is_empty() {
        let (number, wire, content, rest) = next(bytes)?;
        bytes = rest;
        let size = match field(message, number) {
            // Vectors grow by doubling.
            Field::Message(kind, size) if wire == 2 => {
                2 * size + weigh(kind, content).unwrap_or(content.len())
            }
            Field::Message(..) => 0,
            Field::Plain(factor) => factor * content.len(),
        };
        sum = sum.saturating_add(size);
    }
    Some(sum)
}

/// Bytes that the model in `bytes` takes once decoded; `None` for damaged files.
pub fn decoded_size(bytes: &[u8]) -> Option<usize> {
    weigh(Message::Model, bytes)
}

/// True when `bytes` are a whole message of the fields of an ONNX model, with a graph and operator sets.
pub fn is_model(mut bytes: &[u8]) -> bool {
    let (mut graph, mut operators) = (false, false);
    while !bytes.is_empty() {
        let Some((number, wire, _, rest)) = next(bytes) else {
            return false;
        };
        bytes = rest;
        let expected = match number {
            1 | 5 => 0,
            2..=4 | 6..=8 | 14 | 20 | 25 | 26 => 2,
            _ => return false,
        };
        if wire != expected {
            return false;
        }
        graph |= number == 7;
        operators |= number == 8;
    }
    graph && operators
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_messages_weigh_what_they_take_decoded() {
        // A graph of a thousand empty nodes.
        let graph: Vec<u8> = [0x0a, 0x00].repeat(1000);
        let mut model = vec![0x3a];
        model.extend([0xd0, 0x0f]);
        model.extend(&graph);
        let size = decoded_size(&model).unwrap();
        assert!(size > 1000 * std::mem::size_of::<proto::Node>(), "{size}");
        assert!(decoded_size(&model[..model.len() - 1]).is_none());
    }

    #[test]
    fn models_are_known_by_their_fields() {
        let model = [0x08, 0x08, 0x3a, 0x00, 0x42, 0x02, 0x10, 0x11];
        assert!(is_model(&model));
        assert!(!is_model(&model[..4]));
        assert!(!is_model(&model[..7]));
        assert!(!is_model(b"PK\x03\x04"));
        assert!(!is_model(b""));
    }
}
