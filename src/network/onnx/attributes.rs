//! Typed access to a node's attributes.

use super::proto;

/// A node's attributes, with the node's own name for messages.
#[derive(Clone, Copy)]
pub struct Attributes<'a>(pub &'a [proto::Attribute]);

/// Largest kernel, stride, dilation or padding that is taken seriously.
const LARGEST: i64 = 1 << 16;

impl<'a> Attributes<'a> {
    /// The attribute of that name.
    pub fn get(&self, name: &str) -> Option<&'a proto::Attribute> {
        self.0.iter().find(|a| a.name.as_deref() == Some(name))
    }

    /// An integer.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.i
    }

    /// A number that switches something on.
    pub fn flag(&self, name: &str) -> bool {
        self.int(name).is_some_and(|i| i != 0)
    }

    /// A float.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.get(name)?.f
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        Some(&self.get(name)?.ints)
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<std::borrow::Cow<'a, str>> {
        Some(String::from_utf8_lossy(self.get(name)?.s.as_deref()?))
    }

    /// A list of exactly `N` small numbers that are not negative.
    pub fn sizes<const N: usize>(&self, name: &str) -> Result<Option<[usize; N]>, String> {
        let Some(list) = self.ints(name) else {
            return Ok(None);
        };
        sizes(list).map(Some).ok_or_else(|| {
            format!(
                "{name} is {list:?}; {N} numbers from 0 to {LARGEST} are needed (2-D maps only)"
            )
        })
    }
}

/// Exactly `N` small numbers that are not negative.
pub fn sizes<const N: usize>(list: &[i64]) -> Option<[usize; N]> {
    let list: [i64; N] = list.try_into().ok()?;
    list.iter()
        .all(|i| (0..=LARGEST).contains(i))
        .then(|| list.map(|i| i as usize))
}
