//! What a layer's launch is told beside its maps: how many variants they are of, what it is measured against, and how a
//! product of matrices is made.

use super::tile::Tile;

/// A launch's variants and its measurement.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Variants whose maps lie one after the other, each of as many images.
    pub variants: usize,
    /// Where the output is reduced as it is made.
    pub measured: Option<Measured<'a>>,
    /// Where a product is made in parts.
    pub split: Option<Split<'a>>,
    /// The tile of a product, where it is not its shape's usual one.
    pub tile: Option<Tile>,
}

/// A product whose sum is cut into parts.
#[derive(Clone, Copy)]
pub struct Split<'a> {
    /// How many.
    pub parts: usize,
    /// Their sums.
    pub sums: &'a wgpu::Buffer,
}

/// What a layer's output is reduced against, and where to.
#[derive(Clone, Copy)]
pub struct Measured<'a> {
    /// The full-precision map of one variant's images.
    pub reference: &'a wgpu::Buffer,
    /// Partial results, as many for each image as the layer's kernel says.
    pub partials: &'a wgpu::Buffer,
}

impl<'a> Work<'a> {
    /// One network, unmeasured.
    pub const PLAIN: Self = Self {
        variants: 1,
        measured: None,
        split: None,
        tile: None,
    };

    /// The measurement's buffers; where there is none, any map that is read and a buffer that nothing reads.
    pub fn buffers(
        self,
        map: &'a wgpu::Buffer,
        spare: &'a wgpu::Buffer,
    ) -> (&'a wgpu::Buffer, &'a wgpu::Buffer) {
        match self.measured {
            Some(m) => (m.reference, m.partials),
            None => (map, spare),
        }
    }

    /// The same of a product's first stage, which measures nothing where there is a second.
    pub fn product_buffers(
        mut self,
        map: &'a wgpu::Buffer,
        spare: &'a wgpu::Buffer,
    ) -> (&'a wgpu::Buffer, &'a wgpu::Buffer) {
        self.measured = self.measured.filter(|_| self.split.is_none());
        self.buffers(map, spare)
    }

    /// Where a product's first stage writes.
    pub fn target(self, y: &'a wgpu::Buffer) -> &'a wgpu::Buffer {
        self.split.map_or(y, |split| split.sums)
    }

    /// Override constant of kernels whose lanes each make pixels of one image: to find its variant is a division that one
    /// variant can do without.
    pub fn several(self) -> (&'static str, f64) {
        ("SEVERAL", f64::from(u8::from(self.variants > 1)))
    }

    /// Override constant of the kernels that measure.
    pub fn constant(self) -> (&'static str, f64) {
        ("MEASURE", f64::from(u8::from(self.measured.is_some())))
    }
}
