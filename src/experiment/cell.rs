//! A cell: one network, quantizer and image set. What it is has one id, which stays the same from commit to commit; how
//! and by which code it is measured makes another, which names its rows.

use serde::Serialize;

use super::code;
use super::plan::{Method, QuantizerSpec};
use crate::data::Preprocessing;
use crate::quant::mixed::Sensitivity;
use crate::results::schema::CellKey;

/// What a cell is. Contents, not paths: moving a file, or storing it in another format, changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellSpec {
    /// Architecture.
    pub model: String,
    /// [`crate::network::Network::content`] of the full-precision network.
    pub network: String,
    /// Resize, crop and normalization.
    pub preprocessing: Preprocessing,
    /// Hash over names, labels and contents of the images, in order.
    pub images: String,
    /// The quantizer.
    pub quantizer: QuantizerSpec,
    /// Hash of the calibration images; absent for methods that look at none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// `accumulated`: all layers up to the measured one are quantized.
    pub mode: &'static str,
}

/// How a cell is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conditions {
    /// `cpu-f32` or `wgpu-f32`: their roundings differ.
    pub engine: String,
    /// Images of one part.
    pub batch: usize,
    /// Images evaluated in f64 too.
    pub f64_images: usize,
}

/// One cell with what it takes to run it.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What it is.
    pub spec: CellSpec,
    /// Its name from commit to commit.
    pub spec_id: SpecId,
    /// The same of the spec without its images.
    pub subject_id: SpecId,
    /// The columns of its rows.
    pub key: CellKey,
    /// Its number among the cells of the plan.
    pub number: usize,
    /// Index into the plan's models.
    pub model: usize,
}

/// A spec that has no id.
#[derive(Debug, thiserror::Error)]
#[error("{model}: the cell cannot be named ({source}); report this with the plan")]
pub struct IdentityError {
    /// Architecture.
    model: String,
    source: serde_json::Error,
}

/// Names what a cell is, whoever measures it, whenever: what runs are compared by. 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpecId(String);

impl SpecId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CellSpec {
    /// The start of the BLAKE3 hash of the spec's JSON.
    pub fn id(&self) -> Result<SpecId, IdentityError> {
        let mut spec = self.clone();
        if let Method::Saved { file, .. } | Method::File { file, .. } = &mut spec.quantizer.method {
            *file = std::path::PathBuf::new();
        }
        let json = serde_json::to_vec(&spec).map_err(|source| IdentityError {
            model: self.model.clone(),
            source,
        })?;
        Ok(SpecId(digits(&[&json])))
    }

    /// Names what is measured, on whatever images: what the bounds of the cell follow from.
    pub fn subject_id(&self) -> Result<SpecId, IdentityError> {
        let images = String::new();
        Self {
            images,
            ..self.clone()
        }
        .id()
    }

    /// Hash of the code that makes the cell's numbers on this engine.
    fn code(&self, engine: &str) -> String {
        let code = code::measuring(engine);
        match &self.quantizer.method {
            Method::Mixed {
                by: Sensitivity::Bound | Sensitivity::Tails,
                ..
            } => format!("{code}-{}", code::ALLOCATION),
            _ => code,
        }
    }
}

impl Conditions {
    /// Names the rows of a cell measured in this way by this code, 16 hexadecimal digits.
    pub fn cell_id(&self, spec: &CellSpec) -> Result<String, IdentityError> {
        Ok(self.cell_id_by(&spec.id()?, &spec.code(&self.engine)))
    }

    fn cell_id_by(&self, spec: &SpecId, code: &str) -> String {
        let Self {
            engine,
            batch,
            f64_images,
        } = self;
        let how = format!("{engine} {batch} {f64_images} {code}");
        digits(&[spec.0.as_bytes(), how.as_bytes()])
    }
}

fn digits(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part).update(&[0]);
    }
    hasher.finalize().to_hex()[..16].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IMAGENET;

    fn spec() -> CellSpec {
        let quantizer = r#"{"method": "saved", "file": "a.qb", "sha256": "00", "bits": 8, "granularity": "per-channel"}"#;
        CellSpec {
            model: "m".into(),
            network: "n".into(),
            preprocessing: IMAGENET,
            images: "i".into(),
            quantizer: serde_json::from_str(quantizer).unwrap(),
            calibration: None,
            mode: "accumulated",
        }
    }

    fn conditions() -> Conditions {
        Conditions {
            engine: "cpu-f32".into(),
            batch: 20,
            f64_images: 1,
        }
    }

    #[test]
    fn a_spec_is_named_by_what_it_is() {
        let id = spec().id().unwrap();
        let mut other = spec();
        if let Method::Saved { file, .. } | Method::File { file, .. } = &mut other.quantizer.method
        {
            *file = "elsewhere/b.qb".into();
        }
        assert_eq!(other.id().unwrap(), id, "the path of a saved network");
        for change in [
            |s: &mut CellSpec| s.network.push('x'),
            |s: &mut CellSpec| s.images.push('x'),
            |s: &mut CellSpec| s.quantizer.bits = 4,
            |s: &mut CellSpec| s.preprocessing.crop = 223.into(),
            |s: &mut CellSpec| s.calibration = Some("c".into()),
        ] {
            let mut other = spec();
            change(&mut other);
            assert_ne!(other.id().unwrap(), id, "{other:?}");
            let same = other.subject_id().unwrap() == spec().subject_id().unwrap();
            assert_eq!(same, other.images != spec().images, "{other:?}");
        }
    }

    #[test]
    fn rows_are_named_by_engine_and_code_too_and_the_spec_stays() {
        let id = spec().id().unwrap();
        let cell = conditions().cell_id_by(&id, "code");
        let mut elsewhere = conditions();
        elsewhere.engine = "wgpu-f32".into();
        assert_ne!(elsewhere.cell_id_by(&id, "code"), cell);
        assert_ne!(conditions().cell_id_by(&id, "other code"), cell);
        assert_eq!(conditions().cell_id_by(&id, "code"), cell);
    }

    #[test]
    fn a_bound_is_code_of_cells_whose_bits_bounds_allocate() {
        let mut spec = spec();
        assert_eq!(spec.code("cpu-f32"), code::MEASURE);
        for (by, asks) in [("measured", false), ("bound", true), ("tails", true)] {
            let quantizer = format!(
                r#"{{"method": "mixed", "by": "{by}", "bits": 6, "granularity": "per-channel"}}"#
            );
            spec.quantizer = serde_json::from_str(&quantizer).unwrap();
            assert_eq!(
                spec.code("cpu-f32").contains(code::ALLOCATION),
                asks,
                "{by}"
            );
        }
    }

    #[test]
    fn a_shader_is_code_of_gpus_alone() {
        assert_eq!(code::measuring("cpu-f32"), code::MEASURE);
        assert!(code::measuring("wgpu-f32").contains(code::GPU));
    }
}
