//! What the tests share.

pub mod architecture_golden;
pub mod calibration;
pub mod chain;
pub mod checker;
pub mod dyadic;
pub mod goldens;
pub mod gpu_checks;
pub mod gpu_problems;
pub mod grids;
pub mod naive;
pub mod networks;
pub mod onnx_golden;
pub mod parts;
pub mod problems;
pub mod random;
pub mod random_network;
pub mod rows;
pub mod run_dir;
pub mod subjects;
pub mod tiny;
