//! The keys of every table of a plan, so that a mistyped one is named with those that are known.

use std::path::Path;

use super::error::PlanError;
use super::method::Method;
use super::studies::Studies;
use crate::data::Settings;

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
    ("images", &["dir", "labels", "skip", "limit", "shuffle"]),
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

/// Refuses a key that the table `name`, or a table in it, does not have; `path` is for the message.
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
