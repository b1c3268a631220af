//! Grids of kernels whose lanes each make pixels of one image; see `shaders/lib/images.wgsl`.

use super::kernels::workgroups;
use super::work::Work;

/// Invocations and workgroups for some images.
#[derive(Clone, Copy)]
pub struct Images {
    /// Invocations per image.
    pub items: usize,
    /// Partial results per image, and workgroups where it is measured.
    pub slots: usize,
    /// Workgroups in all.
    pub workgroups: u64,
}

/// Partial results of an image of `items` invocations.
pub fn slots(items: usize) -> usize {
    items.div_ceil(64)
}

/// Override constant of these kernels: to find an image's variant is a division that one variant can do without.
pub fn several(work: Work<'_>) -> (&'static str, f64) {
    ("SEVERAL", f64::from(u8::from(work.variants > 1)))
}

impl Images {
    /// For `images` images of `items` invocations each.
    pub fn new(items: usize, images: usize, work: Work<'_>) -> Self {
        let slots = slots(items);
        Self {
            items,
            slots,
            workgroups: match work.measured {
                Some(_) => (images * slots) as u64,
                None => workgroups(images * items),
            },
        }
    }
}
