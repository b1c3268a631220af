//! Constant folding: the value of a node whose inputs are all constants, as ONNX Runtime computes it.
//!
//! Exporters leave the arithmetic of shapes and paddings, and sometimes of weights, in the graph. Every result is
//! rounded to its element type. Nothing is allocated before the budget has room for it.

mod arrange;
mod broadcast;
mod elementwise;
mod reduce;
mod types;

pub use types::{cast, shape as shape_of};

use super::attributes::Attributes;
use super::constant::{Constant, Kind, product};

/// Bytes that constants may take at one time.
#[derive(Debug)]
pub struct Budget {
    left: usize,
    all: usize,
    most: usize,
}

impl Budget {
    /// A budget of `bytes`, which can be extended to `most`.
    pub fn new(bytes: usize, most: usize) -> Self {
        let bytes = bytes.min(most);
        Self {
            left: bytes,
            all: bytes,
            most,
        }
    }

    /// Takes `bytes`, or says how many would be needed.
    pub fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            format!(
                "its constants would take {bytes} bytes where {} of {} are left; \
                 simplify the model before importing it",
                self.left, self.all
            )
        })?;
        Ok(())
    }

    /// Gives `bytes` back.
    pub fn give(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes).min(self.all);
    }

    /// Makes room for what a file of `bytes` beside the model may hold.
    pub fn extend(&mut self, bytes: usize) {
        let more = bytes.min(self.most - self.all);
        self.left += more;
        self.all += more;
    }

    /// Room for a tensor of these extents.
    fn tensor(&mut self, dims: &[usize], kind: Kind) -> Result<(), String> {
        let bytes = product(dims).and_then(|len| len.checked_mul(kind.width()));
        self.take(bytes.ok_or_else(|| format!("the extents {dims:?} are too large"))?)
    }
}

/// A node to be evaluated: attributes and inputs, `None` for optional inputs that are left out.
pub struct Call<'a> {
    /// Operator.
    pub op: &'a str,
    /// Attributes.
    pub attributes: Attributes<'a>,
    /// Inputs.
    pub inputs: Vec<Option<&'a Constant>>,
    /// Number of outputs.
    pub outputs: usize,
}

impl<'a> Call<'a> {
    fn input(&self, i: usize) -> Result<&'a Constant, String> {
        self.optional(i)
            .ok_or_else(|| format!("input {i} is missing"))
    }

    fn optional(&self, i: usize) -> Option<&'a Constant> {
        self.inputs.get(i).copied().flatten()
    }

    /// Integers given as input `i`, or in older operator sets as an attribute.
    fn list(&self, i: usize, name: &str) -> Result<Option<&'a [i64]>, String> {
        match self.optional(i) {
            Some(c) => match c.integers() {
                Some(values) => Ok(Some(values)),
                None => Err(format!("input {i} must hold integers")),
            },
            None => Ok(self.attributes.ints(name)),
        }
    }
}

/// The outputs of a node of constants, charged to the budget; `None` for an operator that is not folded.
pub fn evaluate(call: &Call<'_>, budget: &mut Budget) -> Option<Result<Vec<Constant>, String>> {
    let one = |result: Result<Constant, String>| result.map(|c| vec![c]);
    if call.op == "Split" {
        return Some(arrange::split(call, budget));
    }
    elementwise::evaluate(call, budget)
        .or_else(|| types::evaluate(call, budget))
        .or_else(|| arrange::evaluate(call, budget))
        .or_else(|| reduce::evaluate(call, budget))
        .map(one)
}
