//! The things that a plan names: images, calibration, models, quantizers, and what of them a sweep keeps at hand.

pub mod augment;
pub mod calibrating;
pub mod calibration;
pub mod context;
pub mod diagnosis;
mod distributing;
pub mod images;
pub mod kept_norms;
pub mod labels;
pub mod model;
pub mod naming;
mod plans;
pub mod preprocessing;
pub mod quantized_file;
mod quantizers;
pub mod saved;
pub mod sensitivity;
pub mod spread;
