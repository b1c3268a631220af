//! Kernels as text: functions that several share stand once, in `shaders/lib`, and a kernel names the parts it needs.
//! Its uniform struct is a Rust struct of the same fields at the same offsets, which a test holds against naga's layout.

use std::marker::PhantomData;

/// A file of `shaders/lib`.
pub struct Part {
    /// File stem.
    pub name: &'static str,
    /// WGSL text.
    pub source: &'static str,
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident = $stem:literal;)*) => {
        $($(#[$doc])* pub const $name: Part = Part {
            name: $stem,
            source: include_str!(concat!("../../../shaders/lib/", $stem, ".wgsl")),
        };)*
        /// Every part.
        pub const PARTS: &[Part] = &[$($name),*];
    };
}

parts! {
    /// NaN and infinities by their bits.
    FINITE = "finite";
    /// Activations; needs [`FINITE`].
    ACTIVATION = "activation";
    /// Numbers of workgroups, invocations and channels.
    GRID = "grid";
    /// Packed codes and f32 weights at bindings 2 to 4.
    WEIGHTS = "weights";
    /// Discrepancy statistics of a lane.
    STATS = "stats";
    /// Those of a workgroup; needs [`STATS`].
    GATHERED = "gathered";
    /// Stores and measures what matrix products make; needs [`ACTIVATION`], [`GRID`] and [`STATS`].
    MEASURE = "measure";
    /// Measured kernels whose lanes each make pixels of one image.
    IMAGES = "images";
    /// Matrix products in registers; needs [`MEASURE`].
    ROWS = "rows";
    /// Matrix products in vectors of 8 lanes; needs [`WEIGHTS`] and [`MEASURE`].
    LANES = "lanes";
    /// Ends of workgroups that make runs of 4 places x 8 vec4s; needs [`MEASURE`].
    RUNS = "runs";
    /// Matrix products tiled in workgroup memory; needs [`WEIGHTS`], [`MEASURE`] and [`RUNS`].
    TILE = "tile";
}

/// A field of a uniform struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name, in both languages.
    pub name: &'static str,
    /// Bytes from the start of the struct.
    pub offset: usize,
    /// Rust type: `u32`, `f32` or an array of two of them.
    pub ty: &'static str,
}

/// The uniform struct of a kernel.
pub trait Params: bytemuck::Pod {
    /// Its fields in order.
    const FIELDS: &'static [Field];
}

/// Declares a uniform struct.
macro_rules! params {
    ($(#[$doc:meta])* pub struct $name:ident { $($field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $(pub $field: $ty,)* }

        impl $crate::engine::gpu::library::Params for $name {
            const FIELDS: &'static [$crate::engine::gpu::library::Field] = &[$(
                $crate::engine::gpu::library::Field {
                    name: stringify!($field),
                    offset: std::mem::offset_of!($name, $field),
                    ty: stringify!($ty),
                }
            ),*];
        }
    };
}
pub(super) use params;

/// A kernel's text. Binding 0 is its uniform struct, then come `inputs` read-only buffers, then `outputs` that it writes.
pub struct Code {
    /// File stem.
    pub name: &'static str,
    /// Shared functions, before the kernel's own text.
    pub parts: &'static [Part],
    /// WGSL text of `shaders/<name>.wgsl`.
    pub source: &'static str,
    /// Read-only storage buffers.
    pub inputs: u32,
    /// Storage buffers that it writes.
    pub outputs: u32,
    /// Fields of its uniform struct.
    pub fields: &'static [Field],
}

impl Code {
    /// The WGSL text that is compiled.
    pub fn assembled(&self) -> String {
        let parts = self.parts.iter().map(|p| p.source);
        parts.chain([self.source]).collect::<Vec<_>>().join("\n")
    }
}

/// A kernel with the uniform struct that it takes.
pub struct Kernel<P> {
    /// Its text.
    pub code: Code,
    params: PhantomData<fn(P)>,
}

impl<P: Params> Kernel<P> {
    /// The kernel of `shaders/<name>.wgsl`.
    pub const fn new(
        name: &'static str,
        parts: &'static [Part],
        source: &'static str,
        inputs: u32,
    ) -> Self {
        Self {
            code: Code {
                name,
                parts,
                source,
                inputs,
                outputs: 1,
                fields: P::FIELDS,
            },
            params: PhantomData,
        }
    }

    /// The same with a second buffer that it writes.
    pub const fn with_second_output(mut self) -> Self {
        self.code.outputs = 2;
        self
    }
}
