//! Plans: TOML texts that say which networks, images and quantizers a sweep crosses. Words alone: what they name is
//! opened elsewhere.

pub mod annotated;
mod error;
mod explained;
mod images;
mod keys;
mod method;
mod model;
mod quantize;
mod quantizer_spec;
mod studies;
mod tails;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::error::PlanError;
pub use self::images::{CalibrationSpec, Images, Shuffle};
use self::keys::check_keys;
pub use self::method::Method;
pub use self::model::{Model, Replacement};
pub use self::quantize::Quantize;
pub use self::quantizer_spec::QuantizerSpec;
pub use self::studies::{Methods, Search, Studies};
pub use self::tails::Tails;
use crate::bounds;

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

impl Plan {
    /// The plan that a text says, without a look at the files that it names; `path` is for messages.
    ///
    /// # Errors
    /// [`PlanError`] for keys that are unknown and values that no plan can have.
    pub fn from_words(text: &str, path: &Path) -> Result<Self, PlanError> {
        let syntax = |e: toml::de::Error| PlanError::syntax(path, &e);
        let table: toml::Table = text.parse().map_err(syntax)?;
        check_keys("the plan", &table, path)?;
        let plan: Self = toml::from_str(text).map_err(syntax)?;
        plan.check().map_err(|e| PlanError::value(path, e))?;
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
            if let Method::Saved { file, .. } | Method::File { file, .. } = &quantize.method {
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
        self.images.check()?;
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
        let unnamed = |m: &&Model| m.name.trim().is_empty() || m.name.contains(char::is_control);
        if let Some(model) = self.model.iter().find(unnamed) {
            return Err(format!(
                "a model is named {:?}: tables and files bear its name, give one of visible characters",
                model.name
            ));
        }
        for id in self.bounds.iter().flatten() {
            bounds::find(id).map_err(|e| e.to_string())?;
        }
        self.studies.check().map_err(|e| format!("studies: {e}"))
    }
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
    fn images_drawn_by_date_are_drawn_by_its_digits() {
        let text = PLAN.replace(
            "dir = \"images\"",
            "dir = \"images\"\nlimit = 2\nshuffle = \"date\"",
        );
        let mut plan = parse(&text).unwrap();
        assert_eq!(plan.images.shuffle, Some(Shuffle::Date));
        assert_eq!(parse(&plan.to_toml().unwrap()).unwrap(), plan);
        plan.images.of_night(20_261_126);
        assert_eq!(plan.images.shuffle, Some(Shuffle::Seed(20_261_126)));
        plan.images.of_night(20_261_127);
        assert_eq!(plan.images.shuffle, Some(Shuffle::Seed(20_261_126)));
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
            ("\"mobilenet_v2\"", "\" \"", "a model is named"),
            ("\"mobilenet_v2\"", "\"a\\nb\"", "a model is named"),
        ] {
            let message = parse(&PLAN.replace(from, to)).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        for (images, word) in [
            ("shuffle = 1", "images.shuffle without images.limit"),
            ("limit = 2\nshuffle = \"day\"", "expected a seed"),
            ("limit = 2\nshuffle = -1", "expected a seed"),
        ] {
            let text = PLAN.replace("dir = \"images\"", &format!("dir = \"images\"\n{images}"));
            let message = parse(&text).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        let message = parse(&format!("bounds = [\"layerwize\"]\n{PLAN}"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("did you mean \"layerwise\"?"), "{message}");
    }
}
