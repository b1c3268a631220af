//! What a plan says of statements for most images.

use serde::{Deserialize, Serialize};

use crate::bounds::probabilistic::check_probability;

/// `tails` in `[studies]` of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tails {
    /// Share of images that a statement covers, above 0 and below 1.
    pub coverage: f64,
    /// Probability, over the draw of the images, that a statement is true.
    pub confidence: f64,
    /// Images that fix the scales of the statement about all depths, and are judged by none of its values; a fifth when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_images: Option<usize>,
}

impl Default for Tails {
    fn default() -> Self {
        Self {
            coverage: 0.95,
            confidence: 0.95,
            scale_images: None,
        }
    }
}

impl Tails {
    /// Says what is wrong with the settings.
    pub fn check(&self) -> Result<(), String> {
        check_probability("tails.coverage", self.coverage).map_err(|e| e.to_string())?;
        check_probability("tails.confidence", self.confidence).map_err(|e| e.to_string())?;
        if self.confidence < 0.5 {
            return Err(format!(
                "tails.confidence = {}: give at least 0.5",
                self.confidence
            ));
        }
        match self.scale_images {
            Some(0) => Err("tails.scale_images = 0: one image at least fixes the scales".into()),
            _ => Ok(()),
        }
    }
}
