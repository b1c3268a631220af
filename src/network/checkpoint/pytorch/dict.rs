//! Which of a file's dicts is the state dict, and its named tensors.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

use super::object::{DType, Id, Object};
use super::pickle::Pickle;
use super::tensors::{ADVICE, View};
use crate::network::checkpoint::StateDict;

/// Keys under which training scripts keep the weights, the likeliest first.
const WRAPPERS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "network"];
/// Parts of the keys of averaged weights.
const AVERAGED: [&str; 4] = ["ema", "shadow", "swa", "averaged"];
/// Dicts in dicts that are searched; files have thousands at most.
const MOST_DICTS: usize = 10_000;

/// A dict with tensors in it.
struct Candidate<'a> {
    /// The keys that lead to it.
    path: Vec<&'a str>,
    dict: Id,
    /// Tensors directly in it.
    tensors: usize,
}

impl Candidate<'_> {
    /// The less, the likelier to be the weights that are meant.
    fn rank(&self) -> (bool, usize) {
        let averaged = |key: &&str| {
            let mut words = key.split(['_', '.', '-']);
            words.any(|word| AVERAGED.contains(&word.to_lowercase().as_str()))
        };
        let known = match self.path.last() {
            None => 0,
            Some(key) => {
                1 + WRAPPERS
                    .iter()
                    .position(|w| w == key)
                    .unwrap_or(WRAPPERS.len())
            }
        };
        (self.path.iter().any(averaged), known)
    }
}

impl<'a> Pickle<'a> {
    /// The named tensors, their elements taken from `data` by storage key; `tensors` are those that the pickle
    /// refers to by number.
    ///
    /// At most `budget` elements are made in all: a file that claims more (by views that repeat one storage) is
    /// refused.
    pub fn state_dict(
        &self,
        data: &HashMap<&str, Cow<'_, [u8]>>,
        tensors: &HashMap<i64, View<'_>>,
        mut budget: usize,
    ) -> Result<StateDict, String> {
        let mut dict = StateDict::default();
        for (name, id) in self.entries(&mut dict.notes)? {
            let described;
            let view = match &self.objects[id] {
                Object::Tensor(arguments) => {
                    described = self
                        .view(arguments)
                        .map_err(|why| format!("tensor {name}: {why}"))?;
                    &described
                }
                Object::Persistent(key) => self
                    .number(*key)
                    .and_then(|key| tensors.get(&key))
                    .ok_or_else(|| format!("tensor {name} is not in the file; fetch it again"))?,
                other => {
                    return Err(format!(
                        "entry {name:?} is {}, not a tensor; {ADVICE}",
                        other.kind()
                    ));
                }
            };
            dict.tensors.remove(name);
            dict.integers.remove(name);
            if let DType::Int(_) = view.storage.dtype {
                dict.integers.insert(name.to_string());
                continue;
            }
            let tensor = view
                .gather(data, &mut budget)
                .map_err(|why| format!("tensor {name}: {why}"))?;
            dict.tensors.insert(name.to_string(), tensor);
        }
        Ok(dict)
    }

    /// An integer, also one that is written as text.
    pub fn number(&self, id: Id) -> Option<i64> {
        match self.objects[id] {
            Object::Int(n) => Some(n),
            Object::Str(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn is_tensor(&self, id: Id) -> bool {
        matches!(self.objects[id], Object::Tensor(_) | Object::Persistent(_))
    }

    /// Names and objects of the dict that holds the weights.
    fn entries(&self, notes: &mut Vec<String>) -> Result<Vec<(&'a str, Id)>, String> {
        let Object::Dict(root) = &self.objects[self.root] else {
            return Err(format!(
                "holds {}, not a dict of tensors; {ADVICE}",
                self.objects[self.root].kind()
            ));
        };
        if root.is_empty() {
            return Err(format!("holds an empty dict, no tensors; {ADVICE}"));
        }
        let mut found = self.candidates();
        let most = found.iter().map(|c| c.tensors).max().unwrap_or(0);
        // A number kept as a tensor beside the weights is no rival to them.
        found.retain(|c| 2 * c.tensors >= most);
        found.sort_by_key(|c| (c.rank(), usize::MAX - c.tensors));
        let dict = found.first().map_or(self.root, |c| c.dict);
        if let Some((chosen, others)) = found.split_first() {
            if !chosen.path.is_empty() {
                notes.push(format!("weights under {:?}", chosen.path.join(".")));
            }
            for other in others {
                notes.push(format!(
                    "{} tensors under {:?} are left out",
                    other.tensors,
                    other.path.join(".")
                ));
            }
        }
        let Object::Dict(pairs) = &self.objects[dict] else {
            return Err(format!("holds no dict of tensors; {ADVICE}"));
        };
        let name = |&(key, value): &(Id, Id)| match &self.objects[key] {
            Object::Str(name) => Ok((*name, value)),
            other => Err(format!(
                "a key of the state dict is {}, not a name; {ADVICE}",
                other.kind()
            )),
        };
        pairs.iter().map(name).collect()
    }

    /// All dicts of names that hold tensors, each once; an optimizer's state goes by numbers.
    fn candidates(&self) -> Vec<Candidate<'a>> {
        let mut found = Vec::new();
        let mut seen = HashSet::from([self.root]);
        let mut open = VecDeque::from([(Vec::new(), self.root)]);
        while let Some((path, dict)) = open.pop_front() {
            let Object::Dict(pairs) = &self.objects[dict] else {
                continue;
            };
            let mut tensors = 0;
            for &(key, value) in pairs {
                let Object::Str(name) = self.objects[key] else {
                    continue;
                };
                if self.is_tensor(value) {
                    tensors += 1;
                } else if matches!(self.objects[value], Object::Dict(_))
                    && seen.len() < MOST_DICTS
                    && path.len() < 4
                    && seen.insert(value)
                {
                    open.push_back(([&path[..], &[name]].concat(), value));
                }
            }
            if tensors > 0 {
                found.push(Candidate {
                    path,
                    dict,
                    tensors,
                });
            }
        }
        found
    }
}
