//! Run directories, sweeps, searches and what is derived from them.

mod ledger;
mod search;
mod store;
mod sweep;
