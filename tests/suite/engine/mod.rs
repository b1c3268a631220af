//! Every engine against literal references, PyTorch and each other.

mod distributions;
mod exact;
mod gpu;
mod oracle;
mod parity;
mod sample_bounds;
mod shaders;
mod unbounded;
