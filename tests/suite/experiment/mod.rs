//! Run directories, sweeps, searches and what is derived from them.

mod code;
mod golden;
mod judge;
mod ledger;
mod leftovers;
mod search;
mod store;
mod sweep;
mod tails;
mod verdicts;
