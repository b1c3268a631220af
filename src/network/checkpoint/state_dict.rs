//! Named tensors of a checkpoint, and the strict report of how they fit an architecture.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::tensor::Tensor;

/// Named f32 tensors, and the integer ones by name only (batch-norm counters).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict {
    /// Floating-point tensors, converted to f32.
    pub tensors: BTreeMap<String, Tensor>,
    /// Names of tensors that hold no floats.
    pub integers: BTreeSet<String>,
    /// What a user should know: which of several dicts was taken.
    pub notes: Vec<String>,
}

/// Integers that training counts with and inference has no use for.
const COUNTERS: [&str; 2] = ["num_batches_tracked", "n_averaged"];

fn is_counter(name: &str) -> bool {
    let last = name.rsplit('.').next();
    last.is_some_and(|last| COUNTERS.contains(&last))
}

impl StateDict {
    /// Beginnings that all names share and that end with a dot, the empty one first: what wrappers put before names.
    pub fn prefixes(&self) -> Vec<&str> {
        let integers = self.integers.iter().filter(|n| !is_counter(n));
        let mut names = self.tensors.keys().chain(integers);
        let Some(first) = names.next() else {
            return vec![""];
        };
        let shared = names.fold(first.as_str(), |shared, name| {
            let same = shared.bytes().zip(name.bytes());
            let len = same.take_while(|(a, b)| a == b).count();
            &shared[..shared.floor_char_boundary(len)]
        });
        let dots = shared.match_indices('.').map(|(at, _)| &shared[..=at]);
        std::iter::once("").chain(dots).collect()
    }
}

/// How a checkpoint fits an architecture; every list must be empty for the network to be used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Needed, not in the file.
    pub missing: Vec<String>,
    /// In the file, not needed.
    pub unused: Vec<String>,
    /// Of another shape than needed.
    pub misshapen: Vec<Misshapen>,
    /// Tensors that hold a NaN or an infinity, with the index of the first.
    pub non_finite: Vec<(String, usize)>,
    /// Batch norms that cannot be folded (negative variance, or a result that is not finite).
    pub unfoldable: Vec<String>,
}

/// A tensor of the wrong shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Misshapen {
    /// Tensor name.
    pub name: String,
    /// Shape the architecture needs.
    pub expected: Vec<usize>,
    /// Shape in the file.
    pub got: Vec<usize>,
}

impl LoadReport {
    /// True when nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self == &Self::default()
    }

    /// Tensors that one side has and the other has not, or has in another shape.
    pub fn names_apart(&self) -> usize {
        self.missing.len() + self.unused.len() + self.misshapen.len()
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = |title: &str, lines: Vec<String>| -> fmt::Result {
            const SHOWN: usize = 8;
            if lines.is_empty() {
                return Ok(());
            }
            writeln!(f, "  {title} ({}):", lines.len())?;
            for line in lines.iter().take(SHOWN) {
                writeln!(f, "    {line}")?;
            }
            if lines.len() > SHOWN {
                writeln!(f, "    and {} more", lines.len() - SHOWN)?;
            }
            Ok(())
        };
        section("missing from the file", self.missing.clone())?;
        section(
            "in the file but not in the architecture",
            self.unused.clone(),
        )?;
        let shapes = self.misshapen.iter();
        section(
            "of the wrong shape",
            shapes
                .map(|m| format!("{}: expected {:?}, got {:?}", m.name, m.expected, m.got))
                .collect(),
        )?;
        let values = self.non_finite.iter();
        section(
            "holding NaN or infinity",
            values.map(|(n, i)| format!("{n}: element {i}")).collect(),
        )?;
        section("batch norms that cannot be folded", self.unfoldable.clone())
    }
}

/// Hands out a checkpoint's tensors once each and keeps the report.
pub struct Loader<'a> {
    dict: &'a StateDict,
    prefix: &'a str,
    used: BTreeSet<String>,
    report: LoadReport,
}

impl<'a> Loader<'a> {
    /// Starts with nothing used; the checkpoint's names have `prefix` before those that are asked for.
    pub fn new(dict: &'a StateDict, prefix: &'a str) -> Self {
        Self {
            dict,
            prefix,
            used: BTreeSet::new(),
            report: LoadReport::default(),
        }
    }

    /// True when the checkpoint has a float tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        let name = format!("{}{name}", self.prefix);
        self.dict.tensors.contains_key(&name)
    }

    /// The tensor `name` of shape `dims`; zeros, and an entry in the report, when it does not fit.
    pub fn take(&mut self, name: &str, dims: &[usize]) -> Tensor {
        let name = &format!("{}{name}", self.prefix);
        self.used.insert(name.to_string());
        let Some(tensor) = self.dict.tensors.get(name) else {
            self.report.missing.push(name.to_string());
            return Tensor::zeros(dims);
        };
        if tensor.dims() != dims {
            self.report.misshapen.push(Misshapen {
                name: name.to_string(),
                expected: dims.to_vec(),
                got: tensor.dims().to_vec(),
            });
            return Tensor::zeros(dims);
        }
        if let Some(i) = tensor.data().iter().position(|x| !x.is_finite()) {
            self.report.non_finite.push((name.to_string(), i));
        }
        tensor.clone()
    }

    /// Notes a batch norm that cannot be folded.
    pub fn unfoldable(&mut self, name: &str, why: &str) {
        self.report.unfoldable.push(format!("{name}: {why}"));
    }

    /// The report; tensors never taken are unused (integer batch-norm counters aside).
    pub fn finish(mut self) -> LoadReport {
        let floats = self.dict.tensors.keys();
        let integers = self.dict.integers.iter();
        self.report.unused = floats
            .chain(integers)
            .filter(|n| !self.used.contains(*n) && !is_counter(n))
            .cloned()
            .collect();
        self.report
    }
}
