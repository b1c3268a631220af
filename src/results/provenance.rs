//! Where results come from: device, versions, inputs. Stored beside every run.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::data::{Drawn, Preprocessing};
use crate::engine::DeviceInfo;

/// Everything needed to say how a run was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// quantbound's version.
    pub version: String,
    /// Git commit of the sources, or `unknown`.
    pub commit: String,
    /// Hash of the sources that results depend on.
    pub code: String,
    /// BLAKE3 of the lock file: the versions of all packages.
    #[serde(default)]
    pub lock: String,
    /// The compiler.
    pub rustc: String,
    /// Operating system and architecture.
    pub platform: String,
    /// Engine, adapter, driver, backend.
    pub device: DeviceInfo,
    /// Why this engine was taken.
    pub device_reason: String,
    /// True when shaders ran on a processor: timings then say nothing of a GPU.
    pub software_adapter: bool,
    /// Seconds since 1970 at the start, UTC.
    pub started_unix: u64,
    /// The command line.
    pub command: Vec<String>,
    /// Folder of the images.
    pub images_dir: String,
    /// How many.
    pub images: usize,
    /// Where their labels come from, and how many have one.
    #[serde(default)]
    pub labels: String,
    /// Hash over names, labels and contents.
    pub images_hash: String,
    /// What they were drawn from, where a draw left some out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn: Option<Drawn>,
    /// What calibrated methods looked at, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// The networks.
    pub models: Vec<ModelProvenance>,
    /// Every machine that measured, once the run is finished.
    #[serde(default)]
    pub machines: Vec<Machine>,
}

/// One machine's part in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub machine: String,
    /// Engine, adapter, driver, backend.
    pub device: DeviceInfo,
    /// Batches of cells that it measured.
    pub batches: u64,
}

/// The name of this machine.
pub fn machine() -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    let asked = || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = name.or_else(|| std::env::var("HOSTNAME").ok());
        let name = name.or_else(|| std::env::var("COMPUTERNAME").ok());
        name.map_or_else(|| "unnamed".into(), |n| n.trim().to_string())
    };
    NAME.get_or_init(asked).clone()
}

/// Where a network's weights come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelProvenance {
    /// Architecture.
    pub model: String,
    /// Checkpoint path as given.
    pub weights: String,
    /// Its SHA-256.
    pub weights_sha256: String,
    /// Hash of the folded network: names, shapes and values, whatever files they lie in.
    #[serde(default)]
    pub network: String,
    /// Resize, crop and normalization.
    pub preprocessing: Preprocessing,
    /// Why that: as stated, as the architecture was trained, or as the network asks for.
    #[serde(default)]
    pub preprocessing_from: String,
    /// `D = max |x|` over normalized pixels.
    pub domain_magnitude: f64,
}
