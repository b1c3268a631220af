//! Plans: TOML files that say which networks, images and quantizers a sweep crosses.

pub mod annotated;
mod method;
mod quantize;
mod quantizer_spec;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::method::Method;
pub use self::quantize::Quantize;
pub use self::quantizer_spec::QuantizerSpec;
use crate::bounds;
use crate::data::{Labels, Settings};
use crate::experiment::studies::Studies;
pub use crate::experiment::subject::augment::CalibrationSpec;

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
}

/// A sweep over models x quantizers on one set of images. Relative paths start at the working directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Images that share one full-precision pass, and the unit of resuming.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// Images also evaluated in f64, for the floating-point allowance.
    #[serde(default = "default_subset")]
    pub f64_images: usize,
    /// Bound ids; all registered ones when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Vec<String>>,
    /// Tolerances on `max |y' - y|` that bits are counted for.
    #[serde(default = "usual_tolerances", skip_serializing_if = "are_usual")]
    pub tolerances: Vec<f64>,
    /// Where the images are.
    pub images: Images,
    /// Images for methods that calibrate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationSpec>,
    /// The networks.
    pub model: Vec<Model>,
    /// The quantizers.
    pub quantize: Vec<Quantize>,
    /// What to find out beside discrepancies and bounds.
    #[serde(default, skip_serializing_if = "Studies::is_empty")]
    pub studies: Studies,
}

fn default_batch() -> usize {
    20
}

fn default_subset() -> usize {
    1
}

/// Tolerances that a sweep asks about unless told others.
pub fn usual_tolerances() -> Vec<f64> {
    vec![0.1, 1.0]
}

fn are_usual(tolerances: &[f64]) -> bool {
    tolerances == usual_tolerances()
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// A folder of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Images {
    /// The folder.
    pub dir: PathBuf,
    /// Where the labels come from; what the folder's layout speaks for when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Leave out the first so many, in name order: calibration and measurement may share a folder.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: usize,
    /// Use only the first so many of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A network and its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Architecture, as `quantbound inspect --model` takes it; any name for an ONNX file.
    pub name: String,
    /// Checkpoint, ONNX file, or `random:SEED` for synthetic weights.
    pub weights: PathBuf,
    /// Replaces every ReLU6: **another function**, and the network's name says so, as in `mobilenet_v2 (relu)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Replacement>,
    /// What is done to its pictures; what is left out is as usual for the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Settings>,
}

/// What takes the place of ReLU6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replacement {
    /// `max(x, 0)`
    Relu,
}

/// Keys of each table, for the check that names a mistyped one.
pub(super) const KEYS: &[(&str, &[&str])] = &[
    (
        "the plan",
        &[
            "batch",
            "f64_images",
            "bounds",
            "tolerances",
            "images",
            "calibration",
            "model",
            "quantize",
            "studies",
        ],
    ),
    ("studies", Studies::KEYS),
    ("tails", &["coverage", "confidence", "scale_images"]),
    ("images", &["dir", "labels", "skip", "limit"]),
    (
        "calibration",
        &["dir", "labels", "skip", "limit", "augment", "seed"],
    ),
    ("model", &["name", "weights", "activation", "preprocessing"]),
    ("activations", &["bits", "range", "percentile"]),
    ("preprocessing", Settings::KEYS),
];

/// Keys of older plans: table, key, and what it is called now.
const RENAMED: &[(&str, &str, &str)] = &[("preprocessing", "order", "channels")];

impl Plan {
    /// Reads and checks a plan.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        Self::parse(&Self::text(path)?, path)
    }

    /// A plan's text, as it was written.
    pub fn text(path: &Path) -> Result<String, PlanError> {
        std::fs::read_to_string(path).map_err(|source| PlanError::Read {
            path: path.to_path_buf(),
            source,
        })
    }

    /// Parses and checks a plan's text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanError> {
        let syntax = |e: toml::de::Error| PlanError::syntax(path, &e);
        let table: toml::Table = text.parse().map_err(syntax)?;
        check_keys("the plan", &table, path)?;
        let mut plan: Self = toml::from_str(text).map_err(syntax)?;
        let value = |problem: String| PlanError::Value {
            path: path.to_path_buf(),
            problem,
        };
        for quantize in &mut plan.quantize {
            let resolved = quantize.resolve();
            resolved.map_err(|e| value(format!("quantize: {e}")))?;
        }
        plan.check().map_err(value)?;
        Ok(plan)
    }

    /// The plan as TOML, as it is stored with the results.
    ///
    /// # Errors
    /// For paths that are no UTF-8, which TOML cannot say.
    pub fn to_toml(&self) -> Result<String, PlanError> {
        toml::to_string_pretty(self).map_err(|e| PlanError::Value {
            path: self.unwritable().unwrap_or(&self.images.dir).to_path_buf(),
            problem: format!(
                "the plan cannot be written ({e}); paths must be UTF-8: rename the file or folder"
            ),
        })
    }

    /// The first path that is no UTF-8.
    fn unwritable(&self) -> Option<&Path> {
        let mut paths = vec![self.images.dir.as_path()];
        paths.extend(self.calibration.iter().map(|c| c.images.dir.as_path()));
        for model in &self.model {
            paths.push(&model.weights);
            let settings = model.preprocessing.iter();
            paths.extend(settings.filter_map(|s| s.file.as_deref()));
        }
        for quantize in &self.quantize {
            if let Method::Saved { file, .. } = &quantize.method {
                paths.push(file);
            }
        }
        paths.into_iter().find(|path| path.to_str().is_none())
    }

    /// The bounds asked for; `None` for all.
    pub fn bound_ids(&self) -> Option<Vec<&str>> {
        let ids = self.bounds.as_ref()?;
        Some(ids.iter().map(String::as_str).collect())
    }

    /// Every quantizer of the sweep, in plan order, without repeats.
    pub fn quantizers(&self) -> Vec<QuantizerSpec> {
        let mut specs: Vec<QuantizerSpec> = Vec::new();
        for spec in self.quantize.iter().flat_map(Quantize::specs) {
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        specs
    }

    fn check(&self) -> Result<(), String> {
        if self.batch == 0 {
            return Err("batch = 0: a batch holds at least one image".into());
        }
        if self.images.limit == Some(0) {
            return Err("images.limit = 0: leave it out to use every image".into());
        }
        let wrong = |t: &&f64| !(**t > 0.0 && t.is_finite());
        if let Some(tolerance) = self.tolerances.iter().find(wrong) {
            return Err(format!(
                "tolerances: {tolerance}; each is a finite number over 0"
            ));
        }
        if let Some(calibration) = &self.calibration {
            calibration.check()?;
        }
        if self.model.is_empty() {
            return Err("no [[model]]: name at least one network".into());
        }
        for spec in self.quantizers() {
            let quantizer = spec.build().map_err(|e| format!("quantize: {e}"))?;
            if quantizer.needs_calibration() && self.calibration.is_none() {
                return Err(format!(
                    "{} needs calibration images: add [calibration] with a dir",
                    quantizer.name()
                ));
            }
        }
        let empty = |q: &Quantize| q.specs().next().is_none();
        if self.quantize.is_empty() || self.quantize.iter().any(empty) {
            return Err("no quantizers: [[quantize]] needs at least one bit width".into());
        }
        for id in self.bounds.iter().flatten() {
            bounds::find(id).map_err(|e| e.to_string())?;
        }
        self.studies.check().map_err(|e| format!("studies: {e}"))
    }
}

pub(super) fn check_keys(name: &str, table: &toml::Table, path: &Path) -> Result<(), PlanError> {
    let known = match name {
        "quantize" => method_keys(table, path)?,
        _ => match KEYS.iter().find(|(n, _)| *n == name) {
            Some((_, known)) => known,
            None => return Ok(()),
        },
    };
    let place = match table.get("method").and_then(toml::Value::as_str) {
        Some(method) if name == "quantize" => format!("quantize, method {method}"),
        _ => name.to_string(),
    };
    for (key, value) in table {
        if !known.contains(&key.as_str()) {
            let renamed = RENAMED.iter().find(|r| (r.0, r.1) == (name, key.as_str()));
            let hint = match renamed {
                Some((_, old, new)) => format!("; `{old}` is called `{new}` now"),
                None => crate::suggest(key, known.iter().copied())
                    .map_or(String::new(), |h| format!("; did you mean `{h}`?")),
            };
            return Err(PlanError::UnknownKey {
                path: path.to_path_buf(),
                key: key.clone(),
                table: place,
                known: known.join(", "),
                hint,
            });
        }
        match value {
            toml::Value::Table(inner) => check_keys(key, inner, path)?,
            toml::Value::Array(items) => {
                for inner in items.iter().filter_map(toml::Value::as_table) {
                    check_keys(key, inner, path)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The keys that a `[[quantize]]` table may have, by its method.
fn method_keys(table: &toml::Table, path: &Path) -> Result<&'static [&'static str], PlanError> {
    let names = || Method::KEYS.iter().map(|(n, _)| *n);
    let wrong = |problem: String| PlanError::Value {
        path: path.to_path_buf(),
        problem,
    };
    let known = || names().collect::<Vec<_>>().join(", ");
    let Some(method) = table.get("method").and_then(toml::Value::as_str) else {
        return Err(wrong(format!(
            "[[quantize]] needs a method; known methods: {}",
            known()
        )));
    };
    let found = Method::KEYS.iter().find(|(n, _)| *n == method);
    found.map(|(_, keys)| *keys).ok_or_else(|| {
        let hint = crate::suggest(method, names());
        wrong(format!(
            "unknown method {method:?} in quantize; known methods: {}{}",
            known(),
            hint.map_or(String::new(), |h| format!("; did you mean {h:?}?"))
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
        [images]
        dir = "images"
        [[model]]
        name = "mobilenet_v2"
        weights = "w.pt"
        [[quantize]]
        method = "uniform"
        bits = [4, 8, 8]
        granularity = ["per-tensor", "per-channel"]
    "#;

    fn parse(text: &str) -> Result<Plan, PlanError> {
        Plan::parse(text, Path::new("plan.toml"))
    }

    #[test]
    fn a_plan_crosses_its_axes_without_repeats() {
        let plan = parse(PLAN).unwrap();
        assert_eq!(plan.quantizers().len(), 4);
        assert_eq!(parse(&plan.to_toml().unwrap()).unwrap(), plan);
    }

    #[test]
    fn unknown_keys_are_named_with_a_suggestion() {
        let text = PLAN.replace("granularity", "granularty");
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains("`granularty` in quantize"), "{message}");
        assert!(message.contains("did you mean `granularity`?"), "{message}");
        let message = parse(&format!("bacth = 3\n{PLAN}"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("did you mean `batch`?"), "{message}");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (from, to, word) in [
            ("[4, 8, 8]", "[4, 17]", "17 bits"),
            ("[4, 8, 8]", "[]", "no quantizers"),
            ("\"per-channel\"", "\"per-row\"", "per-row"),
        ] {
            let message = parse(&PLAN.replace(from, to)).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        let message = parse(&format!("bounds = [\"layerwize\"]\n{PLAN}"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("did you mean \"layerwise\"?"), "{message}");
    }
}
