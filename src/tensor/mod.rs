//! Shapes and dense tensors. Feature maps are NCHW; one image's map is `C x H x W`, row-major.

pub mod histogram;
pub mod memory;
pub mod product;
pub mod simd;
pub mod tolerance;

use std::fmt;

/// Shape of one image's feature map; the batch dimension is carried beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Channels.
    pub c: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
}

impl Shape {
    /// A `C x H x W` map.
    pub const fn new(c: usize, h: usize, w: usize) -> Self {
        Self { c, h, w }
    }

    /// A vector of `c` features (a `C x 1 x 1` map).
    pub const fn vector(c: usize) -> Self {
        Self { c, h: 1, w: 1 }
    }

    /// Number of elements.
    pub const fn len(&self) -> usize {
        self.c * self.h * self.w
    }

    /// True when some extent is zero.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pixels of one channel.
    pub const fn pixels(&self) -> usize {
        self.h * self.w
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.c, self.h, self.w)
    }
}

/// A dense row-major tensor of any rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<T = f32> {
    dims: Vec<usize>,
    data: Vec<T>,
}

impl<T: Clone + Default> Tensor<T> {
    /// Wraps `data`; `None` when its length is not the product of `dims`.
    pub fn new(dims: impl Into<Vec<usize>>, data: Vec<T>) -> Option<Self> {
        let dims = dims.into();
        let len = dims.iter().try_fold(1usize, |acc, &d| acc.checked_mul(d))?;
        (len == data.len()).then_some(Self { dims, data })
    }

    /// A tensor of zeros.
    pub fn zeros(dims: impl Into<Vec<usize>>) -> Self {
        let dims = dims.into();
        let len = dims.iter().product();
        Self {
            dims,
            data: vec![T::default(); len],
        }
    }
}

impl<T> Tensor<T> {
    /// Extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Elements, row-major.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// Elements, row-major, for writing.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The elements, without the shape.
    pub fn into_data(self) -> Vec<T> {
        self.data
    }
}

/// A batch of feature maps of one shape, NCHW.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<T = f32> {
    /// Shape of each image's map.
    pub shape: Shape,
    /// `n * shape.len()` elements.
    pub data: Vec<T>,
}

impl<T> Batch<T> {
    /// Wraps `data`; `None` when its length is not a multiple of the shape's.
    pub fn new(shape: Shape, data: Vec<T>) -> Option<Self> {
        (!shape.is_empty() && data.len().is_multiple_of(shape.len()))
            .then_some(Self { shape, data })
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.data.len() / self.shape.len()
    }

    /// The map of image `i`.
    pub fn image(&self, i: usize) -> &[T] {
        let n = self.shape.len();
        &self.data[i * n..(i + 1) * n]
    }
}
