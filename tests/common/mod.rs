//! What the tests share. Each test uses a part of it.
#![allow(dead_code)]

pub mod naive;
pub mod networks;
pub mod problems;
pub mod random;
pub mod subjects;
