//! The table of published weights, `datasets/hub.toml`.

use std::path::{Component, Path};

use serde::Deserialize;

use super::HubError;
use crate::data::Preprocessing;

/// The table that is built in.
const BUILT_IN: &str = include_str!("../../datasets/hub.toml");

/// Published weights by model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// Scheme and host that files are taken from.
    pub base: String,
    /// The files.
    pub models: Vec<Entry>,
}

/// One published file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What `--model` takes.
    pub model: String,
    /// `owner/name` on the hub.
    pub repository: String,
    /// Commit, or a branch that may move.
    pub revision: String,
    /// Path in the repository.
    pub file: String,
    /// sha256 of the file, in hexadecimal, where it is known.
    pub sha256: Option<String>,
    /// Size in units of 10^6 bytes, rounded; for orientation.
    pub megabytes: Option<f64>,
    /// Terms of use, as the repository states them.
    pub licence: String,
    /// Whose parameter names the checkpoint has.
    pub naming: String,
    /// One line on training and origin.
    pub about: String,
    /// What the checkpoint was evaluated with, where that differs from the model's default.
    pub preprocessing: Option<Preprocessing>,
}

impl Catalog {
    /// The built-in table.
    pub fn built_in() -> Result<Self, HubError> {
        Self::parse(BUILT_IN, "datasets/hub.toml")
    }

    /// Reads a table of the same form.
    pub fn read(path: &Path) -> Result<Self, HubError> {
        let text = std::fs::read_to_string(path).map_err(HubError::file(path))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses and checks a table; `path` is for messages.
    pub fn parse(text: &str, path: &str) -> Result<Self, HubError> {
        let problem = |problem: String| HubError::Catalog {
            path: path.to_string(),
            problem,
        };
        let catalog: Self = toml::from_str(text).map_err(|e| problem(e.to_string()))?;
        for (i, entry) in catalog.models.iter().enumerate() {
            entry
                .check()
                .map_err(|e| problem(format!("{}: {e}", entry.model)))?;
            if catalog.models[..i].iter().any(|e| e.model == entry.model) {
                return Err(problem(format!("{}: listed twice", entry.model)));
            }
        }
        Ok(catalog)
    }

    /// The entry of a model.
    pub fn find(&self, model: &str) -> Result<&Entry, HubError> {
        let names = || self.models.iter().map(|e| e.model.as_str());
        let found = self.models.iter().find(|e| e.model == model);
        found.ok_or_else(|| HubError::Unknown {
            name: model.to_string(),
            known: names().collect::<Vec<_>>().join(", "),
            hint: crate::suggest(model, names())
                .map_or(String::new(), |n| format!("; did you mean {n:?}?")),
        })
    }
}

impl Entry {
    /// Address below `base`.
    pub fn url(&self, base: &str) -> String {
        let base = base.trim_end_matches('/');
        let (repository, revision, file) = (&self.repository, &self.revision, &self.file);
        format!("{base}/{repository}/resolve/{revision}/{file}")
    }

    /// True when the revision is a commit rather than a branch that may move.
    pub fn is_pinned_revision(&self) -> bool {
        self.revision.len() == 40 && is_hexadecimal(&self.revision)
    }

    fn check(&self) -> Result<(), String> {
        for (key, value) in [
            ("repository", &self.repository),
            ("revision", &self.revision),
            ("file", &self.file),
        ] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            let inside = Path::new(value)
                .components()
                .all(|c| matches!(c, Component::Normal(_)));
            if value.is_empty() || !inside || !value.chars().all(plain) {
                return Err(format!("{key} = {value:?} is no plain relative path"));
            }
        }
        match &self.sha256 {
            Some(sum) if !is_sha256(sum) => Err(format!(
                "sha256 = {sum:?}: expected 64 lower-case hexadecimal digits"
            )),
            _ => Ok(()),
        }
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// True for 64 lower-case hexadecimal digits.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && is_hexadecimal(text)
}
