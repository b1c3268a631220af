//! Architectures as data, by name, and the namings of their checkpoints.

pub mod blueprint;
pub mod cifar_resnet;
pub mod efficientnet_lite;
pub mod inverted_residual;
pub mod mobilenet_v1;
pub mod mobilenet_v2;
pub mod naming;
pub mod resnet;
pub mod zoo;
