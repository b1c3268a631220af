//! Run directories, sweeps, searches and what is derived from them.

mod attribution;
mod code;
mod failures;
mod faults;
mod golden;
mod judge;
mod ledger;
mod leftovers;
mod nightly;
mod search;
mod shards;
mod store;
mod sweep;
mod tails;
mod verdicts;
