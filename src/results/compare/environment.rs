//! How two runs were made, where that differs.

use std::collections::BTreeSet;

use serde_json::Value;

use super::change::Difference;

/// Name and place in `provenance.json`.
const PLACES: [(&str, &str); 17] = [
    ("version", "/version"),
    ("commit", "/commit"),
    ("code", "/code"),
    ("lock file", "/lock"),
    ("compiler", "/rustc"),
    ("platform", "/platform"),
    ("engine", "/device/engine"),
    ("device", "/device/device"),
    ("kind of device", "/device/kind"),
    ("driver", "/device/driver"),
    ("graphics API", "/device/backend"),
    ("threads", "/device/threads"),
    ("number of images", "/images"),
    ("images", "/images_hash"),
    ("seed of the draw", "/drawn/seed"),
    ("labels", "/labels"),
    ("calibration", "/calibration"),
];

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "not said".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The weights of each network.
fn weights(provenance: &Value) -> String {
    let models = provenance.get("models").and_then(Value::as_array);
    let models = models.into_iter().flatten().map(|m| {
        let field = |name: &str| text(m.get(name));
        format!("{} {}", field("model"), field("weights_sha256"))
    });
    let models: BTreeSet<String> = models.collect();
    models.into_iter().collect::<Vec<_>>().join(", ")
}

pub fn differences(base: &Value, new: &Value) -> Vec<Difference> {
    let places = PLACES.iter().map(|&(what, place)| Difference {
        what,
        base: text(base.pointer(place)),
        new: text(new.pointer(place)),
    });
    let assets = Difference {
        what: "weights",
        base: weights(base),
        new: weights(new),
    };
    places.chain([assets]).filter(|d| d.base != d.new).collect()
}
