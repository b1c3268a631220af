//! What is on disk, as told to its readers.

mod compare;
mod headline;
mod schema_page;
