//! Bounds against exact arithmetic: numbers `m 2^e` of any size.

mod enclosed;
mod linear;
