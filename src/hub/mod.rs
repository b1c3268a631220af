//! Downloads of published weights: a table of pinned files, a resumable verified download, a cache.

pub mod cache;
pub mod catalog;
pub mod download;

mod http;
mod part;

pub use catalog::{Catalog, Entry};
pub use download::{Download, Event, Fetched, Trust};

/// What can go wrong between a model's name and its file.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A table of models is not of the expected form.
    #[error("{path}: not a table of models: {problem}")]
    Catalog {
        /// The table.
        path: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// The table has no such model.
    #[error("no published weights are known for {name:?}; known: {known}{hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
        /// `; did you mean ...`, or empty.
        hint: String,
    },
    /// No directory to keep downloads in.
    #[error("no cache directory: neither HOME nor XDG_CACHE_HOME is set; give --cache DIR")]
    NoCache,
    /// A file of the cache cannot be read or written.
    #[error("{path}: {problem}; check permissions and free space, or give --cache DIR")]
    File {
        /// The file or directory.
        path: String,
        /// What the system said.
        problem: std::io::Error,
    },
    /// Another process downloads the same file.
    #[error("{path}: another process is downloading this file; wait for it, then run this again")]
    Busy {
        /// The unfinished file.
        path: String,
    },
    /// Not in the cache, and requests are not allowed.
    #[error("{path}: not in the cache, and --offline forbids to download it; {advice}")]
    Offline {
        /// Where the file would be.
        path: String,
        /// What to do.
        advice: String,
    },
    /// A file that was put into the cache, with nothing to compare it with.
    #[error(
        "{path}: there is a file, but no checksum to verify it with (sha256 {got}); \
         if you trust it, give --sha256 {got}, or run without --offline"
    )]
    Unverified {
        /// The file.
        path: String,
        /// Its sha256.
        got: String,
    },
    /// No answer.
    #[error("{url}: no answer ({problem}); {advice}")]
    Network {
        /// What was asked for.
        url: String,
        /// What the network said.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// An answer that is no file.
    #[error("{url}: expected the file, got HTTP status {status}; {advice}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What to do.
        advice: String,
    },
    /// A redirection that cannot be followed.
    #[error("{url}: {problem}")]
    Redirect {
        /// What redirected.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The connection kept breaking.
    #[error("{url}: {problem}; {got} bytes are kept in {path}: run this again to go on from there")]
    Broken {
        /// What was asked for.
        url: String,
        /// The last failure.
        problem: String,
        /// Bytes received.
        got: u64,
        /// The unfinished file.
        path: String,
    },
    /// Neither the table nor the server names a checksum.
    #[error(
        "{url}: the server names no sha256 and none is pinned, so the file could not be verified; \
         give the expected one with --sha256"
    )]
    NoChecksum {
        /// What was asked for.
        url: String,
    },
    /// The server says it has another file than the pinned one.
    #[error(
        "{url}: the server offers another file than the pinned one: expected sha256 {expected}, \
         it names {got}; nothing was downloaded: do not use that file before the pin is reviewed"
    )]
    Replaced {
        /// What was asked for.
        url: String,
        /// Pinned.
        expected: String,
        /// In the server's answer.
        got: String,
    },
    /// The file in the cache is not the expected one.
    #[error("{path}: expected sha256 {expected}, got {got}; {advice}")]
    Mismatch {
        /// The file.
        path: String,
        /// Pinned, or on record.
        expected: String,
        /// Of the file.
        got: String,
        /// What to do.
        advice: String,
    },
    /// What arrived is not the expected file.
    #[error("{path}: expected sha256 {expected}, got {got}; the file was removed: {advice}")]
    Checksum {
        /// The file.
        path: String,
        /// Pinned, or named by the server.
        expected: String,
        /// Of what arrived.
        got: String,
        /// What to do.
        advice: String,
    },
}

impl HubError {
    fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |problem| Self::File { path, problem }
    }
}
