//! What a full-precision pass leaves for the questions that come after it.

use crate::tensor::Batch;

/// Every value of a pass, on the device.
pub(super) struct Reference {
    pub images: usize,
    /// The input and every node's output.
    pub values: Vec<wgpu::Buffer>,
}

/// What the last full-precision pass left.
pub(super) enum Held {
    Nothing,
    Whole(Reference),
    /// The images, whose values do not fit together.
    Images(Batch),
}

impl Held {
    /// How many there are.
    pub fn images(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Whole(reference) => reference.images,
            Self::Images(batch) => batch.images(),
        }
    }
}
