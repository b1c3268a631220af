//! The kernels that a GPU runs for a network, as one JSON object per layer: `gpu_plan MODEL IMAGES`. Needs no GPU.

use anyhow::Context;
use quantbound::engine::gpu::plan;
use quantbound::network::zoo;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let model = args.next().context("usage: gpu_plan MODEL IMAGES")?;
    let images = args.next().context("usage: gpu_plan MODEL IMAGES")?;
    let images = images.parse().context("IMAGES is a number")?;
    for layer in plan::layers(&zoo::skeleton(&model)?, images) {
        println!("{}", serde_json::to_string(&layer)?);
    }
    Ok(())
}
