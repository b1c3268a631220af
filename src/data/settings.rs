//! Preprocessing as a plan, flags or a file state it: what they leave out is as usual for the network.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Channels, DataError, Interpolation, PerChannel, Preprocessing, Size};
use crate::tensor::memory;

/// `[model.preprocessing]` of a plan and the flags of the same names; every key may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A JSON file: timm's configuration of a model, torchvision's transforms, or what scripts/export_torchvision.py
    /// writes. The other keys come before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// See [`Preprocessing::resize`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Size>,
    /// See [`Preprocessing::crop`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Size>,
    /// See [`Preprocessing::interpolation`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
    /// See [`Preprocessing::mean`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<PerChannel>,
    /// See [`Preprocessing::std`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<PerChannel>,
    /// See [`Preprocessing::input_range`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_range: Option<[f32; 2]>,
    /// See [`Preprocessing::channels`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Channels>,
}

impl Settings {
    /// Names of the keys.
    pub const KEYS: &[&str] = &[
        "file",
        "resize",
        "crop",
        "interpolation",
        "mean",
        "std",
        "input_range",
        "channels",
    ];

    /// True when nothing is stated.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// With what the file states, and where all of it was stated; `None` where nothing was.
    pub fn resolved(&self) -> Result<(Self, Option<String>), DataError> {
        let own = Self {
            file: None,
            ..self.clone()
        };
        let stated = (!own.is_empty()).then_some("as given");
        let Some(path) = &self.file else {
            return Ok((own, stated.map(String::from)));
        };
        let file = read(path)?;
        let from = match stated {
            Some(_) => format!("as given, the rest from {}", path.display()),
            None => format!("from {}", path.display()),
        };
        Ok((own.or(file), Some(from)))
    }

    fn or(self, other: Self) -> Self {
        Self {
            file: None,
            resize: self.resize.or(other.resize),
            crop: self.crop.or(other.crop),
            interpolation: self.interpolation.or(other.interpolation),
            mean: self.mean.or(other.mean),
            std: self.std.or(other.std),
            input_range: self.input_range.or(other.input_range),
            channels: self.channels.or(other.channels),
        }
    }

    /// What is stated in the place of what is usual.
    pub fn over(&self, usual: &Preprocessing) -> Preprocessing {
        Preprocessing {
            resize: self.resize.unwrap_or(usual.resize),
            crop: self.crop.unwrap_or(usual.crop),
            interpolation: self.interpolation.unwrap_or(usual.interpolation),
            mean: self.mean.unwrap_or(usual.mean),
            std: self.std.unwrap_or(usual.std),
            input_range: self.input_range.unwrap_or(usual.input_range),
            channels: self.channels.unwrap_or(usual.channels),
        }
    }
}

impl From<Preprocessing> for Settings {
    fn from(p: Preprocessing) -> Self {
        Self {
            file: None,
            resize: Some(p.resize),
            crop: Some(p.crop),
            interpolation: Some(p.interpolation),
            mean: Some(p.mean),
            std: Some(p.std),
            input_range: Some(p.input_range),
            channels: Some(p.channels),
        }
    }
}

/// Longest file that is read.
const LONGEST: u64 = 1 << 20;

fn read(path: &Path) -> Result<Settings, DataError> {
    let wrong = |problem: String| DataError::Settings {
        path: path.display().to_string(),
        problem,
    };
    let unreadable = |e: std::io::Error| wrong(format!("cannot be read ({e})"));
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > LONGEST {
        return Err(wrong(format!(
            "{length} bytes, too long for a few settings"
        )));
    }
    let text = memory::read_file(path, "the settings", 2).map_err(unreadable)?;
    let json: Value = serde_json::from_slice(&text).map_err(|e| wrong(format!("no JSON: {e}")))?;
    parse(&json).map_err(wrong)
}

/// The settings of any of the known layouts.
fn parse(json: &Value) -> Result<Settings, String> {
    // What holds the settings, in the layouts that wrap them.
    let inner = [
        "preprocessing",
        "pretrained_cfg",
        "default_cfg",
        "transforms",
    ];
    let inner = inner
        .iter()
        .filter_map(|key| json.get(key))
        .find(|v| v.is_object());
    let table = inner.unwrap_or(json);
    if table.get("input_size").is_some() || table.get("crop_pct").is_some() {
        return timm(table);
    }
    if table.get("resize_size").is_some() || table.get("crop_size").is_some() {
        return torchvision(table);
    }
    let settings: Settings =
        serde_json::from_value(table.clone()).map_err(|e| format!("{e}; {LAYOUTS}"))?;
    if settings.is_empty() || settings.file.is_some() {
        Err(LAYOUTS.into())
    } else {
        Ok(settings)
    }
}

const LAYOUTS: &str = "expected timm's configuration (input_size, crop_pct, interpolation, mean, std), torchvision's \
                       transforms (resize_size, crop_size, ...), or the keys of a plan's [model.preprocessing]";

/// `InterpolationMode.BILINEAR` and `bilinear` alike.
fn kernel(table: &Value) -> Result<Option<Interpolation>, String> {
    let Some(value) = table.get("interpolation") else {
        return Ok(None);
    };
    let text = value.as_str().unwrap_or_default().to_lowercase();
    let name = text.rsplit('.').next().unwrap_or_default();
    let kernel = name
        .parse()
        .map_err(|e| format!("interpolation {value}: {e}"));
    kernel.map(Some)
}

fn numbers(table: &Value, key: &str) -> Result<Option<PerChannel>, String> {
    let value = table.get(key).filter(|v| !v.is_null());
    let read = |v: &Value| serde_json::from_value(v.clone()).map_err(|e| format!("{key}: {e}"));
    value.map(read).transpose()
}

/// `resize_size = [256]`, `crop_size = [224]`.
fn torchvision(table: &Value) -> Result<Settings, String> {
    let size = |key: &str| -> Result<Option<Size>, String> {
        let Some(value) = table.get(key) else {
            return Ok(None);
        };
        let value = match value.as_array().map(Vec::as_slice) {
            Some([one]) => one,
            _ => value,
        };
        let size = serde_json::from_value(value.clone());
        size.map(Some).map_err(|e| format!("{key}: {e}"))
    };
    Ok(Settings {
        resize: size("resize_size")?,
        crop: size("crop_size")?,
        interpolation: kernel(table)?,
        mean: numbers(table, "mean")?,
        std: numbers(table, "std")?,
        ..Settings::default()
    })
}

/// `input_size = [3, 224, 224]`, of which the picture was `crop_pct`.
fn timm(table: &Value) -> Result<Settings, String> {
    let size = table.get("input_size").and_then(Value::as_array);
    let size: Vec<usize> = size
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_u64().map(|n| n as usize))
        .collect();
    let [channels, height, width] = size[..] else {
        return Err("input_size: expected [channels, height, width]".into());
    };
    let share = match table.get("crop_pct") {
        None => 0.875,
        Some(value) => value
            .as_f64()
            .filter(|s| *s > 0.0 && *s <= 1.0)
            .ok_or_else(|| format!("crop_pct {value}: expected a share in (0, 1]"))?,
    };
    let scaled = |side: usize| (side as f64 / share).floor() as usize;
    let resize = match table.get("crop_mode").and_then(Value::as_str) {
        None | Some("center") if height == width => Size::Side(scaled(height)),
        Some("squash") => Size::Both([scaled(height), scaled(width)]),
        other => {
            return Err(format!(
                "crop_mode {} with an input of {height} x {width} is not known here; give resize and crop yourself",
                other.unwrap_or("center")
            ));
        }
    };
    Ok(Settings {
        resize: Some(resize),
        crop: Some(Size::of(height, width)),
        interpolation: kernel(table)?,
        mean: numbers(table, "mean")?,
        std: numbers(table, "std")?,
        channels: Channels::of_count(channels),
        ..Settings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn timm_torchvision_and_plans_say_the_same() {
        let (mean, std) = (json!([0.485, 0.456, 0.406]), json!([0.229, 0.224, 0.225]));
        let timm = json!({"architecture": "resnet50", "pretrained_cfg": {
            "input_size": [3, 224, 224], "crop_pct": 0.875, "crop_mode": "center",
            "interpolation": "bilinear", "mean": mean, "std": std, "classifier": "fc"}});
        let vision = json!({"resize_size": [256], "crop_size": [224], "mean": mean, "std": std,
            "interpolation": "InterpolationMode.BILINEAR"});
        let ours = json!({"model": "resnet50", "source": "x", "preprocessing": {
            "resize": 256, "crop": 224, "interpolation": "bilinear", "mean": mean, "std": std}});
        for (name, json) in [("timm", timm), ("torchvision", vision), ("ours", ours)] {
            let settings = parse(&json).unwrap();
            let got = settings.over(&super::super::EFFICIENTNET_LITE);
            assert_eq!(got, super::super::IMAGENET, "{name}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for json in [
            json!({}),
            json!([1, 2]),
            json!({"mean": "x"}),
            json!({"crop_pct": 0.9}),
            json!({"input_size": [3, 224, 192], "crop_mode": "center"}),
            json!({"input_size": [3, 224, 224], "crop_pct": 0}),
            json!({"input_size": [3, 224, 224], "interpolation": "nearest"}),
        ] {
            assert!(parse(&json).is_err(), "{json}");
        }
        let squashed = json!({"input_size": [3, 90, 180], "crop_pct": 0.9, "crop_mode": "squash"});
        let resize = parse(&squashed).unwrap().resize;
        assert_eq!(resize, Some(Size::Both([100, 200])));
    }
}
