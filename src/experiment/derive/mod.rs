//! What follows from stored rows: verdicts, the summary, the ledger, the required bits, statements for most images.

pub mod judge;
pub mod ledger;
pub mod path_norm;
pub mod required_bits;
pub mod summary;
pub mod tables;
pub mod tails;
pub mod theorems;
