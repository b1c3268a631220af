//! Hashes of the code that stored rows depend on, by component; `build/code.rs` says what belongs to which.

include!(concat!(env!("OUT_DIR"), "/code.rs"));

/// Of all that measures on this engine (`cpu-f32`, `wgpu-f32`, ...).
pub fn measuring(engine: &str) -> String {
    if engine.starts_with("cpu") {
        MEASURE.to_string()
    } else {
        format!("{MEASURE}-{GPU}")
    }
}
