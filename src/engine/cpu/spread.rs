//! Maps of bounds: what is kept of a value beside the reference's, and what a node reads of it.

use std::ops::Deref;

use super::buffers::{Buffer, Buffers};
use super::pruning::Extent;
use super::real::Real;
use crate::engine::sample::says_nothing;
use crate::network::Node;

/// Upper bounds on the elements of a map.
#[derive(Default)]
pub enum Spread {
    /// All exactly zero.
    #[default]
    Zero,
    /// One for each element.
    Map(Buffer<f64>),
    /// None that f64 can hold.
    Unbounded,
}

/// A value of the graph: bounds on the error, and on the distance from the ball's centre.
#[derive(Default)]
pub struct State {
    pub error: Spread,
    pub reach: Spread,
}

/// What a node reads.
pub struct Read<'s, T> {
    pub y: &'s [T],
    /// No element is below zero.
    pub nonnegative: bool,
    pub state: &'s State,
}

/// A map of bounds, or a copy of one that was changed.
pub enum Held<'s> {
    There(&'s [f64]),
    Here(Buffer<f64>),
}

impl<T: Real> Read<'_, T> {
    pub fn widened(&self, wide: &Buffers<f64>) -> Held<'static> {
        let mut out = wide.take(self.y.len());
        let pairs = out.iter_mut().zip(self.y);
        pairs.for_each(|(w, &y)| *w = y.into());
        Held::Here(out)
    }

    /// The most that an element can be in magnitude, anywhere in the ball; `y` is what is read.
    pub fn magnitudes<'h>(&self, y: &'h [f64], wide: &Buffers<f64>) -> Held<'h> {
        let Spread::Map(reach) = &self.state.reach else {
            return match self.nonnegative {
                true => Held::There(y),
                false => Held::of(y, wide, f64::abs),
            };
        };
        let mut out = wide.take(y.len());
        let pairs = out.iter_mut().zip(y).zip(&**reach);
        pairs.for_each(|((w, y), r)| {
            *w = y.abs();
            *w += r;
        });
        Held::Here(out)
    }
}

impl Deref for Held<'_> {
    type Target = [f64];
    fn deref(&self) -> &[f64] {
        match self {
            Self::There(map) => map,
            Self::Here(map) => map,
        }
    }
}

impl Held<'_> {
    /// Of every element.
    pub fn of(map: &[f64], wide: &Buffers<f64>, f: impl Fn(f64) -> f64) -> Held<'static> {
        let mut out = wide.take(map.len());
        out.iter_mut().zip(map).for_each(|(o, &x)| *o = f(x));
        Held::Here(out)
    }

    pub fn free(self, wide: &Buffers<f64>) {
        if let Self::Here(map) = self {
            wide.give(map);
        }
    }
}

impl Spread {
    /// What a node leaves: its map, or nothing but the range of its values, where that is finite, when `lost`.
    pub fn of(
        map: Option<Buffer<f64>>,
        lost: bool,
        (range, len): (Option<f64>, usize),
        wide: &Buffers<f64>,
    ) -> Self {
        match (map, lost, range) {
            (Some(map), _, _) if map.contains(&f64::INFINITY) => {
                wide.give(map);
                Self::Unbounded
            }
            (Some(map), _, _) => Self::Map(map),
            (None, true, Some(cap)) => {
                let mut map = wide.take(len);
                map.fill(cap);
                Self::Map(map)
            }
            (None, true, None) => Self::Unbounded,
            (None, false, _) => Self::Zero,
        }
    }

    /// Its map, zeros where there is nothing.
    pub fn held(&self, len: usize, wide: &Buffers<f64>) -> Held<'_> {
        match self {
            Self::Map(map) => Held::There(map),
            Self::Zero | Self::Unbounded => {
                let mut out = wide.take(len);
                out.fill(0.0);
                Held::Here(out)
            }
        }
    }

    pub fn free(self, wide: &Buffers<f64>) {
        if let Self::Map(map) = self {
            wide.give(map);
        }
    }
}

/// How far the bounds of a value reach, beside what the reference is.
pub fn extent<T: Real>(state: &State, y: &[T], node: &Node) -> Extent {
    let mut found = Extent::default();
    match &state.error {
        Spread::Zero => {}
        Spread::Unbounded => found.bound = f64::INFINITY,
        Spread::Map(map) => {
            for (k, &bound) in map.iter().enumerate() {
                let capped = node.activation.cap().is_some_and(|cap| {
                    let reach = match &state.reach {
                        Spread::Map(reach) => reach[k],
                        Spread::Zero | Spread::Unbounded => 0.0,
                    };
                    says_nothing(cap, y[k].into(), reach, bound)
                });
                let capped = u32::from(capped);
                found = found.join(Extent { bound, capped });
            }
        }
    }
    found
}
