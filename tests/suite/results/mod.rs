//! What is on disk, as told to its readers.

mod headline;
mod schema_page;
