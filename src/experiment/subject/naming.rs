//! Networks of one name in one plan are told apart, and one network that stands there twice is refused.

use std::path::Path;

use super::model::LoadedModel;
use crate::experiment::plan::{Model, PlanError};

/// Gives networks that share a name names of their own, by their files; the same network twice is an error.
pub fn tell_apart(models: &mut [LoadedModel], planned: &[Model]) -> Result<(), PlanError> {
    for (j, later) in models.iter().enumerate() {
        let same = |m: &&LoadedModel| {
            (&m.content, &m.preprocessing, &m.network.name)
                == (&later.content, &later.preprocessing, &later.network.name)
        };
        if let Some(i) = models[..j].iter().position(|m| same(&m)) {
            return Err(PlanError::Value {
                path: planned[j].weights.clone(),
                problem: format!(
                    "the plan has this network already ({}, with the same preprocessing); leave one [[model]] out",
                    planned[i].weights.display()
                ),
            });
        }
    }
    let names: Vec<String> = models.iter().map(|m| m.network.name.clone()).collect();
    let files: Vec<String> = planned.iter().map(|p| file(&p.weights)).collect();
    for (k, model) in models.iter_mut().enumerate() {
        let alike = || (0..names.len()).filter(|&i| names[i] == names[k]);
        if alike().count() == 1 {
            continue;
        }
        let own = alike().filter(|&i| files[i] == files[k]).count() == 1;
        let place = if own {
            String::new()
        } else {
            format!(" {}", k + 1)
        };
        model.network.name = format!("{} [{}{place}]", names[k], files[k]);
    }
    Ok(())
}

fn file(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str());
    stem.to_string_lossy().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(weights: &str) -> Model {
        Model {
            name: "cifar_resnet20".into(),
            weights: weights.into(),
            activation: None,
            preprocessing: None,
        }
    }

    fn loaded(weights: &str) -> LoadedModel {
        let mut model = LoadedModel::load(&planned(weights), None).unwrap();
        model.network.name = "net".into();
        model
    }

    fn names(models: &[LoadedModel]) -> Vec<&str> {
        models.iter().map(|m| m.network.name.as_str()).collect()
    }

    #[test]
    fn two_checkpoints_of_one_architecture_are_two_models() {
        let mut models = [loaded("random:1"), loaded("random:2"), loaded("random:3")];
        let files = ["a/one.pth", "b/one.onnx", "two.pth"].map(planned);
        tell_apart(&mut models, &files).unwrap();
        assert_eq!(names(&models), ["net [one 1]", "net [one 2]", "net [two]"]);
    }

    #[test]
    fn one_network_is_named_as_it_is_and_refused_twice() {
        let files = ["a/one.pth", "b/two.pth"].map(planned);
        let mut models = [loaded("random:1")];
        tell_apart(&mut models, &files[..1]).unwrap();
        assert_eq!(names(&models), ["net"]);
        let mut models = [loaded("random:1"), loaded("random:1")];
        let error = tell_apart(&mut models, &files).unwrap_err().to_string();
        assert!(
            error.contains("two.pth") && error.contains("a/one.pth"),
            "{error}"
        );
    }
}
