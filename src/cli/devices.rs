//! `quantbound devices`

use std::io::Write;

use serde_json::json;

use super::Outcome;
use super::options::gpu_options;
use super::output::say;
use super::table;
use crate::engine::gpu::adapter::list_adapters;
use crate::engine::select::{Backend, select};

/// Arguments of `devices`.
#[derive(clap::Args)]
pub struct Args {
    /// JSON on standard output in the place of a table (results/schema.md, --json)
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Lists adapters and the choice of `auto`.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let adapters = list_adapters();
        let auto = select(Backend::Auto, None, None, gpu_options(None))?;
        let device = auto.engine.device();
        if self.json {
            let object = json!({
                "adapters": adapters,
                "auto": { "device": device, "reason": auto.reason },
            });
            say!("{object:#}");
            return Ok(Outcome::Fine);
        }
        let mib = |bytes: u64| (bytes >> 20).to_string();
        let rows: Vec<Vec<String>> = adapters
            .iter()
            .map(|a| {
                vec![
                    a.index.to_string(),
                    a.name.clone(),
                    a.kind.to_string(),
                    a.backend.clone(),
                    a.driver.clone(),
                    a.pci.clone(),
                    mib(a.memory),
                    mib(a.max_storage_binding),
                    mib(a.max_buffer),
                    format!("{}", a.workgroup_memory >> 10),
                    a.max_workgroups.to_string(),
                    format!("{} to {}", a.subgroups.0, a.subgroups.1),
                ]
            })
            .collect();
        let mut out = super::output::stdout();
        let header = [
            "number",
            "adapter",
            "type",
            "backend",
            "driver",
            "PCI",
            "memory MiB",
            "binding MiB",
            "buffer MiB",
            "workgroup KiB",
            "workgroups/dim",
            "subgroup",
        ];
        if adapters.is_empty() {
            writeln!(
                out,
                "no GPU adapters; on Debian, mesa-vulkan-drivers brings a software one"
            )?;
        } else {
            table::print(&mut out, &header, &rows)?;
        }
        writeln!(
            out,
            "auto takes {} ({}, {} threads): {}",
            device.device, device.engine, device.threads, auto.reason
        )?;
        Ok(Outcome::Fine)
    }
}
