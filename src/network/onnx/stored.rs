//! Constants of the file that are read when something needs them. Narrow integers that only become floats are read as that
//! happens: as integers of their own they would take up to sixteen times their room in the file.

use super::GROWTH;
use super::attributes::Attributes;
use super::constant::{Constant, Data, Kind};
use super::decode;
use super::importer::{Importer, Item, Stored};
use super::proto;
use crate::tensor::memory::Watch;

/// The number of single precision in the standard.
const FLOAT: i64 = 1;

impl<'a> Importer<'a> {
    /// Reads the stored constants among a node's inputs, once their extents are known to fit.
    pub fn fetch(&mut self, node: &'a proto::Node) -> Result<(), String> {
        for (i, name) in node.input.iter().enumerate() {
            if let Some(&Item::Stored(stored)) = self.items.get(name.as_str())
                && self.turned(node, i).is_none()
            {
                if let Ok((dims, ..)) = decode::measure(stored.tensor) {
                    self.check_broadcast(node, i, &dims)?;
                }
                let read = if stored.cast {
                    self.turn(stored.tensor, |_, code| code as f32)
                } else {
                    self.read(stored.tensor)
                };
                let item = read.map_or_else(Item::Unreadable, Item::Constant);
                self.items.insert(name, item);
            }
        }
        Ok(())
    }

    /// Declares the node's output to be a constant of the file.
    pub fn set_stored(&mut self, node: &'a proto::Node, tensor: &'a proto::Tensor, cast: bool) {
        if let Some(name) = node.output.first()
            && self.uses.contains_key(name.as_str())
        {
            let stored = Stored { tensor, cast };
            self.items.insert(name, Item::Stored(stored));
        }
    }

    /// A constant of the file, charged to the budget.
    fn read(&mut self, tensor: &'a proto::Tensor) -> Result<Constant, String> {
        let (_, _, bytes) = decode::measure(tensor)?;
        let mut watch = self.admit(tensor)?;
        self.budget.take(bytes)?;
        let read = decode::decode(tensor, self.folder, &mut watch);
        self.remember_watch(tensor, watch);
        if read.is_err() {
            self.budget.give(bytes);
        }
        read
    }

    /// Makes room for what the file may hold that a tensor lies in, when it is met first; the watch over its reading.
    fn admit(&mut self, tensor: &'a proto::Tensor) -> Result<Watch, String> {
        let Some(location) = decode::location(tensor) else {
            return Ok(Watch::default());
        };
        if let Some(&watch) = self.files.get(location) {
            return Ok(watch);
        }
        let (size, watch) = decode::external(tensor, self.folder)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.budget.extend(size.saturating_mul(GROWTH));
        self.files.insert(location, watch);
        Ok(watch)
    }

    fn remember_watch(&mut self, tensor: &'a proto::Tensor, watch: Watch) {
        if let Some(location) = decode::location(tensor) {
            self.files.insert(location, watch);
        }
    }

    /// The constant of the file at input `i`, not read yet, where it holds narrow integers that the node turns into floats.
    pub fn turned(&self, node: &'a proto::Node, i: usize) -> Option<&'a proto::Tensor> {
        let turns = match (node.op_type.as_deref()?, i) {
            ("Cast", 0) => Attributes(&node.attribute).int("to") == Some(FLOAT),
            // In a model that is not read as a quantized one they are refused, whatever the codes are.
            ("DequantizeLinear", 0)
            | ("QLinearConv" | "QLinearMatMul" | "QGemm", 3)
            | ("ConvInteger" | "MatMulInteger", 1) => true,
            _ => false,
        };
        let Ok(&Item::Stored(Stored {
            tensor,
            cast: false,
        })) = self.item(node, i)
        else {
            return None;
        };
        let kind = decode::measure(tensor).ok()?.1;
        let narrow = matches!(kind, Kind::Signed(..=16) | Kind::Unsigned(..=16));
        (turns && narrow).then_some(tensor)
    }

    /// What [`Importer::turned`] found as floats: `float` of each position and integer.
    pub fn turn(
        &mut self,
        tensor: &'a proto::Tensor,
        float: impl Fn(usize, i64) -> f32,
    ) -> Result<Constant, String> {
        let (dims, kind, bytes) = decode::measure(tensor)?;
        let len = bytes / kind.width();
        let mut watch = self.admit(tensor)?;
        self.budget.take(len * size_of::<f32>())?;
        let mut values = Vec::new();
        let read = decode::parts(tensor, self.folder, &mut watch, &mut |part| {
            values.reserve_exact(len - values.len());
            if let Data::Ints(codes) = part {
                values.extend((values.len()..).zip(codes).map(|(i, code)| float(i, code)));
            }
        });
        self.remember_watch(tensor, watch);
        read?;
        Constant::new(Kind::F32, dims, Data::Floats(values))
    }
}
