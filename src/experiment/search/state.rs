//! A search on disk: one safetensors file, written whole, from which a killed search goes on.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SearchError;
use super::record::Record;
use crate::results::store::write_bytes;

/// Numbers as tensors, bit for bit; words and counts as JSON.
#[derive(Debug, Default)]
pub(super) struct Saved {
    path: PathBuf,
    texts: HashMap<String, String>,
    tensors: BTreeMap<String, (Dtype, Vec<u8>)>,
}

impl Saved {
    /// An empty state of the task `id`.
    pub fn new(path: &Path, id: &str) -> Self {
        let texts = HashMap::from([("id".to_string(), id.to_string())]);
        Self {
            path: path.to_path_buf(),
            texts,
            ..Self::default()
        }
    }

    /// Reads a state of the task `id`; `None` where there is none.
    pub fn read(path: &Path, id: &str) -> Result<Option<Self>, SearchError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(damaged(path, e)),
        };
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(path, e))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(path, e))?;
        let tensors = file
            .iter()
            .map(|(name, t)| (name.to_string(), (t.dtype(), t.data().to_vec())))
            .collect();
        let saved = Self {
            path: path.to_path_buf(),
            texts: header.metadata().clone().unwrap_or_default(),
            tensors,
        };
        if saved.texts.get("id").is_some_and(|found| found == id) {
            Ok(Some(saved))
        } else {
            Err(SearchError::OtherTask {
                path: path.to_path_buf(),
            })
        }
    }

    /// Writes the file, whole or not at all.
    pub fn write(self) -> Result<(), SearchError> {
        let views = self.tensors.iter().map(|(name, (dtype, bytes))| {
            let size = if *dtype == Dtype::F32 { 4 } else { 8 };
            let view = TensorView::new(*dtype, vec![bytes.len() / size], bytes);
            view.map(|view| (name.as_str(), view))
        });
        let views: Result<Vec<_>, _> = views.collect();
        let bytes = views
            .and_then(|views| safetensors::serialize(views, Some(self.texts.clone())))
            .map_err(|e| damaged(&self.path, e))?;
        Ok(write_bytes(&self.path, &bytes)?)
    }

    pub fn put_text(&mut self, name: &str, value: &impl Serialize) -> Result<(), SearchError> {
        let text = serde_json::to_string(value).map_err(|e| damaged(&self.path, e))?;
        self.texts.insert(name.to_string(), text);
        Ok(())
    }

    pub fn text<V: DeserializeOwned>(&self, name: &str) -> Result<V, SearchError> {
        let text = self.texts.get(name).map_or("", String::as_str);
        serde_json::from_str(text).map_err(|e| damaged(&self.path, e))
    }

    pub fn floats(&mut self, name: String, values: Vec<f32>) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.insert(name, (Dtype::F32, bytes));
    }

    pub fn wide(&mut self, name: String, values: Vec<f64>) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.insert(name, (Dtype::F64, bytes));
    }

    pub fn take_floats(&mut self, name: &str) -> Result<Vec<f32>, SearchError> {
        let bytes = self.take(name, Dtype::F32)?;
        Ok(bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect())
    }

    pub fn take_wide(&mut self, name: &str) -> Result<Vec<f64>, SearchError> {
        let bytes = self.take(name, Dtype::F64)?;
        Ok(bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|&b| f64::from_le_bytes(b))
            .collect())
    }

    fn take(&mut self, name: &str, dtype: Dtype) -> Result<Vec<u8>, SearchError> {
        let found = self.tensors.remove(name).filter(|(d, _)| *d == dtype);
        let missing = || damaged(&self.path, format!("has no tensor {name}"));
        found.map(|(_, bytes)| bytes).ok_or_else(missing)
    }

    pub fn put_record(&mut self, record: &Record) -> Result<(), SearchError> {
        self.put_text("record", record)?;
        self.wide("record.best".to_string(), vec![record.best, record.before]);
        self.wide("record.trace".to_string(), record.trace.clone());
        self.floats("record.input".to_string(), record.input.clone());
        Ok(())
    }

    pub fn take_record(&mut self) -> Result<Record, SearchError> {
        let mut record: Record = self.text("record")?;
        let values = self.take_wide("record.best")?;
        [record.best, record.before] = [0, 1].map(|i| values.get(i).copied().unwrap_or(f64::NAN));
        record.trace = self.take_wide("record.trace")?;
        record.input = self.take_floats("record.input")?;
        Ok(record)
    }
}

fn damaged(path: &Path, problem: impl std::fmt::Display) -> SearchError {
    SearchError::State {
        path: path.to_path_buf(),
        problem: problem.to_string(),
    }
}
