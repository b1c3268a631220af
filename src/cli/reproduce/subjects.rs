//! Which weights and images an entry works on, and what of them is missing.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::experiment::plan::{CalibrationSpec, Images, Model};

/// Where a user's own weights and images are.
#[derive(clap::Args)]
pub struct Subjects {
    /// Folder with weights of the paper's networks, each as <model>.safetensors, .pth, .pt or .onnx
    #[arg(long, value_name = "DIR")]
    weights_dir: Option<PathBuf>,
    /// Images in the place of the samples, as `quantbound run` takes them
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Calibration images [default: the first of the images, the others measure]
    #[arg(long, value_name = "DIR")]
    calibration: Option<PathBuf>,
    /// Measure on the first N images
    #[arg(long, value_name = "N", value_parser = crate::cli::options::count)]
    limit: Option<usize>,
}

const ENDINGS: [&str; 4] = ["safetensors", "pth", "pt", "onnx"];

impl Subjects {
    /// The networks with the weights that are there, and what is to be known of them; what is missing is left out.
    ///
    /// # Errors
    /// When none of the networks has weights.
    pub fn models(&self, wanted: &[Model]) -> anyhow::Result<(Vec<Model>, Vec<String>)> {
        let (mut found, mut notes) = (Vec::new(), Vec::new());
        let mut synthetic: Vec<&Model> = Vec::new();
        for model in wanted {
            let own = self
                .weights_dir
                .as_deref()
                .and_then(|dir| own(dir, &model.name));
            let text = model.weights.to_string_lossy();
            if let Some(file) = own {
                notes.push(format!("{}: weights {}", model.name, file.display()));
                found.push(Model {
                    weights: file,
                    ..model.clone()
                });
            } else if text.starts_with("random:") {
                synthetic.push(model);
                found.push(model.clone());
            } else if model.weights.is_file() {
                found.push(model.clone());
            } else {
                notes.push(format!(
                    "{}: left out: {text} is not here; run scripts/fetch-assets where that fetches it, or give --weights-dir with {}",
                    model.name,
                    expected(&model.name)
                ));
            }
        }
        if let Some(first) = synthetic.first() {
            let names: Vec<&str> = synthetic.iter().map(|m| m.name.as_str()).collect();
            notes.push(format!(
                "{}: synthetic weights ({}): depth and shapes are the paper's, values are not; give --weights-dir with {} \
                 for trained ones",
                names.join(", "),
                first.weights.display(),
                expected(&first.name)
            ));
        }
        if found.is_empty() {
            anyhow::bail!("no weights for any of the networks: {}", notes.join("; "));
        }
        Ok((found, notes))
    }

    /// The images to measure and to calibrate on.
    ///
    /// # Errors
    /// Folders that are not there.
    pub fn images(
        &self,
        images: &mut Images,
        calibration: Option<&mut CalibrationSpec>,
    ) -> anyhow::Result<()> {
        if let Some(dir) = &self.images {
            images.dir = dir.clone();
            images.limit = None;
        }
        if let Some(limit) = self.limit {
            images.limit = Some(limit);
        }
        check(&images.dir)?;
        if let Some(calibration) = calibration {
            if let Some(dir) = self.calibration.as_ref().or(self.images.as_ref()) {
                calibration.images.dir = dir.clone();
            }
            if self.calibration.is_some() {
                calibration.images.limit = None;
                images.skip = 0;
            }
            check(&calibration.images.dir)?;
        }
        Ok(())
    }
}

/// The file of a network in a folder of weights.
fn own(dir: &Path, name: &str) -> Option<PathBuf> {
    let files = ENDINGS.iter().map(|e| dir.join(format!("{name}.{e}")));
    files.into_iter().find(|file| file.is_file())
}

fn expected(name: &str) -> String {
    format!("{name}.safetensors (or .pth, .pt, .onnx)")
}

fn check(dir: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        dir.is_dir(),
        "{}: no such folder of images; run scripts/fetch-assets for the samples, or give --images DIR",
        dir.display()
    );
    std::fs::read_dir(dir).with_context(|| format!("{}: cannot be read", dir.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(weights_dir: Option<PathBuf>) -> Subjects {
        Subjects {
            weights_dir,
            images: None,
            calibration: None,
            limit: None,
        }
    }

    fn model(name: &str, weights: &str) -> Model {
        Model {
            name: name.into(),
            weights: weights.into(),
            activation: None,
            preprocessing: None,
        }
    }

    #[test]
    fn own_weights_come_first_and_missing_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("resnet18.pth"), b"").unwrap();
        let wanted = [
            model("resnet18", "random:1"),
            model("resnet50", "random:1"),
            model("mobilenet_v2", "no/such.pt"),
        ];
        let given = subjects(Some(dir.path().to_path_buf()));
        let (found, notes) = given.models(&wanted).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].weights, dir.path().join("resnet18.pth"));
        assert_eq!(found[1].weights, Path::new("random:1"));
        assert!(notes[1].contains("no/such.pt is not here"), "{notes:?}");
        assert!(notes[2].contains("resnet50: synthetic"), "{notes:?}");
        // Said once of all of them.
        let (_, notes) = subjects(None).models(&wanted[..2]).unwrap();
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].contains("resnet18, resnet50: synthetic"),
            "{notes:?}"
        );
        let error = subjects(None).models(&wanted[2..]).unwrap_err().to_string();
        assert!(error.contains("mobilenet_v2.safetensors"), "{error}");
    }
}
