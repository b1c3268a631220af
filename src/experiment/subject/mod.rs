//! The things that a plan names: images, calibration, models, quantizers, and what of them a sweep keeps at hand.

pub mod augment;
pub mod calibrating;
pub mod calibration;
pub mod context;
pub mod diagnosis;
pub mod images;
pub mod labels;
pub mod model;
pub mod naming;
pub mod preprocessing;
pub mod saved;
pub mod sensitivity;
