//! A kernel as a driver gets it, SPIR-V on standard output: `kernel_spirv NAME CONSTANT=VALUE...`. Needs no GPU.

use std::io::Write;

use anyhow::Context;
use naga::back::spv;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use quantbound::engine::gpu::catalog::kernels;

const USAGE: &str = "usage: kernel_spirv NAME CONSTANT=VALUE...";

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context(USAGE)?;
    let found = kernels().into_iter().find(|k| k.name == name);
    let text = found
        .with_context(|| format!("no kernel is named {name}"))?
        .assembled();
    let mut constants = naga::back::PipelineConstants::default();
    for arg in args {
        let (constant, value) = arg.split_once('=').context(USAGE)?;
        constants.insert(constant.to_string(), value.parse().context(USAGE)?);
    }
    let module = naga::front::wgsl::parse_str(&text)?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP);
    let info = validator.validate(&module)?;
    let entry = Some((naga::ShaderStage::Compute, "main"));
    let (module, info) =
        naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants)?;
    let options = spv::Options {
        lang_version: (1, 3),
        // As the engine has it: kernels write before they read.
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        ..spv::Options::default()
    };
    let main = spv::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".into(),
    };
    let words = spv::write_vec(&module, &info, &options, Some(&main))?;
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    std::io::stdout().write_all(&bytes)?;
    Ok(())
}
