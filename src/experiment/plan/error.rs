//! What can be wrong with a plan.

use std::path::{Path, PathBuf};

/// What can be wrong with a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The plan.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or a value of the wrong type.
    #[error("{path}: {problem}")]
    Syntax {
        /// The plan.
        path: PathBuf,
        /// The parser's words.
        problem: String,
    },
    /// A key that plans do not have.
    #[error("{path}: unknown key `{key}` in {table}; known keys: {known}{hint}")]
    UnknownKey {
        /// The plan.
        path: PathBuf,
        /// The key.
        key: String,
        /// The table it stands in.
        table: String,
        /// All keys of that table.
        known: String,
        /// `; did you mean ...`, or empty.
        hint: String,
    },
    /// A value outside its range.
    #[error("{path}: {problem}")]
    Value {
        /// The plan.
        path: PathBuf,
        /// What is wrong, and what is allowed.
        problem: String,
    },
}

impl PlanError {
    /// The parser's words on the plan at `path`.
    pub fn syntax(path: &Path, error: &toml::de::Error) -> Self {
        Self::Syntax {
            path: path.to_path_buf(),
            problem: error.to_string().trim_end().to_string(),
        }
    }

    /// A value outside its range in the plan at `path`.
    pub fn value(path: &Path, problem: impl Into<String>) -> Self {
        Self::Value {
            path: path.to_path_buf(),
            problem: problem.into(),
        }
    }
}
