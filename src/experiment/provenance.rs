//! The record of this process: what it is, where it runs, since when.

use crate::engine::DeviceInfo;
use crate::results::provenance::Provenance;

impl Provenance {
    /// A record of this process on this device, without models yet.
    pub fn new(device: DeviceInfo, device_reason: String) -> Self {
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: env!("QUANTBOUND_COMMIT").into(),
            code: super::code::measuring(&device.engine),
            lock: blake3::hash(include_bytes!("../../Cargo.lock")).to_string(),
            rustc: env!("QUANTBOUND_RUSTC").into(),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            software_adapter: device.kind == "software-gpu",
            device,
            device_reason,
            started_unix: started.map_or(0, |d| d.as_secs()),
            command: std::env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            images_dir: String::new(),
            images: 0,
            labels: String::new(),
            images_hash: String::new(),
            drawn: None,
            calibration: None,
            models: Vec::new(),
            machines: Vec::new(),
        }
    }
}
