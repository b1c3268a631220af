//! What is on disk, as told to its readers.

mod compare;
mod headline;
mod history;
mod schema_page;
