//! Flags that say what is done to pictures.

use std::path::PathBuf;

use clap::Args;

use crate::data::{Channels, Interpolation, PerChannel, Settings, Size};

/// What is done to pictures; what is left out is as usual for the network, and told.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Preprocessing")]
pub struct PreprocessingOptions {
    /// Pixels of the shorter side after resizing, or HEIGHTxWIDTH
    #[arg(long, value_name = "N")]
    pub resize: Option<Size>,
    /// What is cut from the centre, the network's input: a side, or HEIGHTxWIDTH
    #[arg(long, value_name = "N")]
    pub crop: Option<Size>,
    /// bilinear or bicubic
    #[arg(long, value_name = "KERNEL")]
    pub interpolation: Option<Interpolation>,
    /// Subtracted from pixels, one number or one per channel of the network
    #[arg(long, value_name = "M,...", allow_hyphen_values = true)]
    pub mean: Option<PerChannel>,
    /// Divides what is left, one number or one per channel of the network
    #[arg(long, value_name = "S,...")]
    pub std: Option<PerChannel>,
    /// What black and white are before mean and std: 0,1 or 0,255
    #[arg(long, value_name = "LO,HI", value_parser = range, allow_hyphen_values = true)]
    pub input_range: Option<[f32; 2]>,
    /// rgb, bgr, grey or rgba
    #[arg(long, value_name = "ORDER")]
    pub channels: Option<Channels>,
    /// JSON with all of this: timm's configuration, torchvision's transforms, or scripts/export_torchvision.py's
    #[arg(long, value_name = "FILE")]
    pub preprocessing: Option<PathBuf>,
}

impl PreprocessingOptions {
    /// As a plan's `[model.preprocessing]`; `None` where no flag is given.
    pub fn settings(&self) -> Option<Settings> {
        let settings = Settings {
            file: self.preprocessing.clone(),
            resize: self.resize,
            crop: self.crop,
            interpolation: self.interpolation,
            mean: self.mean,
            std: self.std,
            input_range: self.input_range,
            channels: self.channels,
        };
        (!settings.is_empty()).then_some(settings)
    }
}

fn range(text: &str) -> Result<[f32; 2], String> {
    let ends = text
        .split_once(',')
        .and_then(|(lo, hi)| Some([lo.trim().parse().ok()?, hi.trim().parse().ok()?]));
    ends.ok_or_else(|| "expected two numbers, as in 0,255".into())
}
