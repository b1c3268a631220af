//! Model names to blueprints, and the loading of a checkpoint into the naming that fits it.

use std::path::Path;

use super::blueprint::Blueprint;
use super::efficientnet_lite::efficientnet_lite0;
use super::graph::Network;
use super::mobilenet_v2::{Naming, mobilenet_v2};
use super::state_dict::{LoadReport, StateDict};
use super::{NetworkError, pytorch, safetensors};

/// Names that `--model` and plans take; `mobilenet_v2` also with a width, as `mobilenet_v2_0.75`.
pub const MODELS: [&str; 2] = ["mobilenet_v2", "efficientnet_lite0"];

/// All blueprints that a checkpoint of this model may follow, the most usual first. `classes` are logits.
fn candidates(model: &str, classes: Option<usize>) -> Result<Vec<Blueprint>, NetworkError> {
    const SIDE: usize = 224;
    if model == "efficientnet_lite0" {
        return Ok(vec![efficientnet_lite0(classes.unwrap_or(1000), SIDE)]);
    }
    let width = match model.strip_prefix("mobilenet_v2") {
        Some("") => Some(1.0),
        Some(rest) => rest
            .strip_prefix('_')
            .and_then(|w| w.parse::<f64>().ok())
            .filter(|w| (0.05..=8.0).contains(w)),
        None => None,
    };
    let Some(width) = width else {
        let near = crate::suggest(model, MODELS);
        return Err(NetworkError::UnknownModel {
            name: model.to_string(),
            known: MODELS.join(", "),
            hint: near.map_or(String::new(), |n| format!("; did you mean {n:?}?")),
        });
    };
    Ok([Naming::Nested, Naming::Flat]
        .map(|naming| Blueprint {
            name: model.to_string(),
            ..mobilenet_v2(width, classes, SIDE, naming)
        })
        .into())
}

/// The model's shapes with all weights zero; the classifier has 1000 logits.
pub fn skeleton(model: &str) -> Result<Network, NetworkError> {
    candidates(model, Some(1000))?[0].skeleton()
}

/// Reads a checkpoint by its content: safetensors, or a PyTorch state dict of either format.
pub fn read_checkpoint(path: &Path) -> Result<StateDict, NetworkError> {
    let file = |problem: String| NetworkError::File {
        path: path.display().to_string(),
        problem,
    };
    let bytes = std::fs::read(path).map_err(|e| {
        file(format!(
            "cannot be read ({e}); scripts/fetch-assets gets the sample weights"
        ))
    })?;
    let parsed = if pytorch::looks_like(&bytes) {
        pytorch::parse(&bytes)
    } else {
        safetensors::parse(&bytes)
    };
    parsed.map_err(file)
}

/// Loads `model` from the checkpoint at `path`; anything missing, unused, misshapen or not finite is an error.
pub fn load(model: &str, path: &Path) -> Result<Network, NetworkError> {
    candidates(model, None)?;
    let dict = read_checkpoint(path)?;
    let classes = ["classifier.1.weight", "_fc.weight"]
        .iter()
        .find_map(|name| dict.tensors.get(*name)?.dims().first().copied());
    let mut best: Option<(usize, LoadReport)> = None;
    for blueprint in candidates(model, classes)? {
        let (network, report) = blueprint.load(&dict)?;
        if report.is_clean() {
            return Ok(network);
        }
        let problems = report.missing.len() + report.unused.len() + report.misshapen.len();
        if best.as_ref().is_none_or(|(least, _)| problems < *least) {
            best = Some((problems, report));
        }
    }
    Err(NetworkError::Load {
        path: path.display().to_string(),
        model: model.to_string(),
        report: Box::new(best.map(|(_, report)| report).unwrap_or_default()),
    })
}
