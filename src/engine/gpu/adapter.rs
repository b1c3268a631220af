//! Finding adapters: what exists, which one `auto` takes and why, and picking one by name.

use crate::engine::EngineError;

/// What an adapter is and the limits that decide what fits.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AdapterSummary {
    /// Name as the driver gives it.
    pub name: String,
    /// `discrete-gpu`, `integrated-gpu`, `virtual-gpu`, `software-gpu` or `other-gpu`.
    pub kind: &'static str,
    /// Driver and its version.
    pub driver: String,
    /// Graphics API.
    pub backend: String,
    /// Bytes that one kernel can see of one buffer.
    pub max_storage_binding: u64,
    /// Bytes of the largest buffer.
    pub max_buffer: u64,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Workgroups along one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Smallest and largest subgroup.
    pub subgroups: (u32, u32),
}

/// What `auto` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoChoice {
    /// The adapter; `None` means the processor.
    pub adapter: Option<AdapterSummary>,
    /// Why, for the log and the record.
    pub reason: String,
}

impl AdapterSummary {
    fn new(adapter: &wgpu::Adapter) -> Self {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        Self {
            kind: kind(&info),
            driver: [info.driver.as_str(), info.driver_info.as_str()]
                .join(" ")
                .trim()
                .to_string(),
            backend: info.backend.to_string(),
            name: info.name,
            max_storage_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            subgroups: (info.subgroup_min_size, info.subgroup_max_size),
        }
    }

    /// True when the processor plays the GPU; never chosen by `auto`.
    pub fn is_software(&self) -> bool {
        self.kind == SOFTWARE
    }

    /// Smaller is better.
    fn rank(&self) -> usize {
        let order = [
            "discrete-gpu",
            "integrated-gpu",
            "virtual-gpu",
            "other-gpu",
            SOFTWARE,
        ];
        order
            .iter()
            .position(|&k| k == self.kind)
            .unwrap_or(order.len())
    }
}

/// Kind of adapters that run on the processor.
const SOFTWARE: &str = "software-gpu";

/// Software rasterizers that do not always call themselves one.
const SOFTWARE_NAMES: [&str; 4] = ["llvmpipe", "lavapipe", "swiftshader", "basic render"];

fn kind(info: &wgpu::AdapterInfo) -> &'static str {
    let name = info.name.to_lowercase();
    if SOFTWARE_NAMES.iter().any(|s| name.contains(s)) {
        return SOFTWARE;
    }
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete-gpu",
        wgpu::DeviceType::IntegratedGpu => "integrated-gpu",
        wgpu::DeviceType::VirtualGpu => "virtual-gpu",
        wgpu::DeviceType::Cpu => SOFTWARE,
        wgpu::DeviceType::Other => "other-gpu",
    }
}

/// All adapters, the ones `auto` prefers first.
fn enumerate() -> Vec<(AdapterSummary, wgpu::Adapter)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let mut adapters: Vec<_> = found
        .into_iter()
        .map(|a| (AdapterSummary::new(&a), a))
        .collect();
    adapters.sort_by_key(|(s, _)| s.rank());
    adapters
}

/// All adapters, the ones `auto` prefers first.
pub fn list_adapters() -> Vec<AdapterSummary> {
    enumerate().into_iter().map(|(s, _)| s).collect()
}

/// Which adapter `auto` takes, and why: discrete before integrated before virtual, software never.
pub fn auto_choice() -> AutoChoice {
    choose(list_adapters())
}

fn choose(adapters: Vec<AdapterSummary>) -> AutoChoice {
    let names = names(&adapters);
    let best = adapters
        .into_iter()
        .filter(|a| !a.is_software())
        .min_by_key(AdapterSummary::rank);
    let reason = match &best {
        Some(a) => format!("{} is the best of the adapters found ({names})", a.name),
        None if names.is_empty() => "no GPU adapter was found; the processor runs instead".into(),
        None => format!(
            "the only adapters are software ({names}), slower than the CPU engine; \
             ask for the GPU backend to use one all the same"
        ),
    };
    AutoChoice {
        adapter: best,
        reason,
    }
}

fn names(adapters: &[AdapterSummary]) -> String {
    let each = adapters.iter().map(|a| format!("{} [{}]", a.name, a.kind));
    each.collect::<Vec<_>>().join(", ")
}

/// The adapter whose name contains `wanted` (in any case), or the best one, software included.
pub(super) fn find(wanted: Option<&str>) -> Result<(AdapterSummary, wgpu::Adapter), EngineError> {
    let adapters = enumerate();
    let listed: Vec<AdapterSummary> = adapters.iter().map(|(s, _)| s.clone()).collect();
    let needle = wanted.unwrap_or("").to_lowercase();
    adapters
        .into_iter()
        .find(|(s, _)| s.name.to_lowercase().contains(&needle))
        .ok_or_else(|| EngineError::NoAdapter {
            wanted: wanted.map_or(String::new(), |w| format!(" named {w:?}")),
            reason: if listed.is_empty() {
                "none was found; install a Vulkan, Metal or DirectX 12 driver, \
                         or use the CPU backend"
                    .into()
            } else {
                format!("these exist: {}", names(&listed))
            },
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: &'static str) -> AdapterSummary {
        AdapterSummary {
            name: name.into(),
            kind,
            driver: String::new(),
            backend: "vulkan".into(),
            max_storage_binding: 1 << 27,
            max_buffer: 1 << 28,
            workgroup_memory: 16384,
            max_workgroups: 65535,
            subgroups: (8, 8),
        }
    }

    #[test]
    fn auto_prefers_discrete_and_never_takes_software() {
        let all = vec![
            adapter("soft", SOFTWARE),
            adapter("small", "integrated-gpu"),
            adapter("big", "discrete-gpu"),
            adapter("shared", "virtual-gpu"),
        ];
        let choice = choose(all.clone());
        assert_eq!(choice.adapter.map(|a| a.name).as_deref(), Some("big"));
        let choice = choose(all[..2].to_vec());
        assert_eq!(choice.adapter.map(|a| a.name).as_deref(), Some("small"));
        let choice = choose(all[..1].to_vec());
        assert_eq!(choice.adapter, None);
        assert!(choice.reason.contains("soft"), "{}", choice.reason);
        assert_eq!(choose(Vec::new()).adapter, None);
    }
}
