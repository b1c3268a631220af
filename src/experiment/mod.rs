//! (in the making)

pub mod schema;
pub mod store;
