//! Norms of a full-precision network from run to run: found once for a network and this code.

use std::path::Path;
use std::sync::Arc;

use super::model::LoadedModel;
use crate::bounds::ReferenceNorms;
use crate::engine::Keep;
use crate::experiment::code;
use crate::tensor::simd;

/// The norms of one model.
pub struct KeptNorms<'a> {
    norms: Arc<ReferenceNorms<'a>>,
    file: Option<(Keep, Vec<u8>)>,
}

impl<'a> KeptNorms<'a> {
    /// Beginning with what an earlier run left in `folder`, for the same values in the same graph, by the same code and
    /// instructions: the same numbers to the bit.
    pub fn open(model: &'a LoadedModel, folder: Option<&Path>) -> Self {
        let norms = ReferenceNorms::new(&model.network);
        let file = folder.map(|folder| {
            let content = model.content.as_str();
            // The second for the arithmetic below the bounds.
            let code = [code::BOUNDS, code::MEASURE].join(" ");
            let fits = format!("{content} {code} {}", simd::instructions());
            let keep = Keep::new(folder, "norms", &fits);
            let found = keep.read().unwrap_or_default();
            norms.learn(&found);
            (keep, found)
        });
        Self { norms, file }
    }

    /// The norms.
    pub fn norms(&self) -> &Arc<ReferenceNorms<'a>> {
        &self.norms
    }

    /// Leaves what was found to the next run. A folder that cannot be written costs that run time, and nothing else.
    pub fn keep(&self) {
        let Some((file, before)) = &self.file else {
            return;
        };
        let found = self.norms.found();
        if found != *before {
            let _ = file.write(&found);
        }
    }
}
