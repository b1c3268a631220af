//! Run directories, sweeps, searches and what is derived from them.

mod attribution;
mod code;
mod golden;
mod judge;
mod ledger;
mod leftovers;
mod search;
mod shards;
mod store;
mod sweep;
mod tails;
mod verdicts;
