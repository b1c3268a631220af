//! What the kernels share: maps on the device, and the naming of activations and sizes in uniform structs.

use super::layout;
use crate::network::Activation;
use crate::tensor::Shape;

/// Feature maps of a batch on the device.
#[derive(Clone, Copy)]
pub struct Map<'a> {
    /// The values.
    pub buffer: &'a wgpu::Buffer,
    /// Shape of one image's map.
    pub shape: Shape,
    /// Images.
    pub images: usize,
}

impl Map<'_> {
    /// vec4s per pixel.
    pub fn c4(&self) -> usize {
        layout::vec4s(self.shape.c)
    }

    /// Pixels of all images.
    pub fn pixels(&self) -> usize {
        self.images * self.shape.pixels()
    }

    /// vec4s of all images.
    pub fn vec4s(&self) -> usize {
        self.pixels() * self.c4()
    }
}

/// The number that shaders know an activation by.
pub fn activation(a: Activation) -> u32 {
    match a {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Relu6 => 2,
    }
}

/// Workgroups of 64 invocations for `items` invocations.
pub fn workgroups(items: usize) -> u64 {
    items.div_ceil(64) as u64
}

/// A size as a field of a uniform struct. Maps fit a binding of less than 4 GiB, so that no size is cut off.
pub fn word(size: usize) -> u32 {
    size as u32
}
