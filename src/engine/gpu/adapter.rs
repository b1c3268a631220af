//! Finding adapters: what exists, which one `auto` takes and why, and picking one by number, PCI address or name.

use crate::engine::{DeviceInfo, EngineError};

/// What an adapter is and the limits that decide what fits.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AdapterSummary {
    /// Its place in [`list_adapters`].
    pub index: usize,
    /// Name as the driver gives it.
    pub name: String,
    /// `discrete-gpu`, `integrated-gpu`, `virtual-gpu`, `software-gpu` or `other-gpu`.
    pub kind: &'static str,
    /// Driver and its version.
    pub driver: String,
    /// Graphics API.
    pub backend: String,
    /// PCI address, as in `0000:01:00.0`; empty where there is none, or the driver does not say.
    pub pci: String,
    /// Bytes of its largest heap of memory; 0 where the driver does not say.
    pub memory: u64,
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
            index: 0,
            kind: kind(&info),
            driver: [info.driver.as_str(), info.driver_info.as_str()]
                .join(" ")
                .trim()
                .to_string(),
            backend: info.backend.to_string(),
            pci: info.device_pci_bus_id,
            memory: memory(adapter),
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

/// Bytes of the largest heap that is the adapter's own.
#[cfg(not(target_vendor = "apple"))]
fn memory(adapter: &wgpu::Adapter) -> u64 {
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`
    const OWN: u32 = 1;
    // SAFETY: nothing is destroyed, and the handles are asked while the guard keeps them.
    let heaps = unsafe {
        adapter.as_hal::<wgpu::hal::api::Vulkan>().map(|vulkan| {
            let instance = vulkan.shared_instance().raw_instance();
            instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
        })
    };
    let own = heaps.iter().flat_map(|found| {
        let heaps = found.memory_heaps.iter();
        heaps.take(found.memory_heap_count as usize)
    });
    own.filter(|heap| heap.flags.as_raw() & OWN != 0)
        .map(|heap| heap.size)
        .max()
        .unwrap_or(0)
}

#[cfg(target_vendor = "apple")]
fn memory(_: &wgpu::Adapter) -> u64 {
    0
}

/// Percentage of what the driver says is free for this process at which an allocation fails, rather than push others out.
const FULL: u8 = 97;

/// All adapters, the ones `auto` prefers first.
fn enumerate() -> Vec<(AdapterSummary, wgpu::Adapter)> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.memory_budget_thresholds.for_resource_creation = Some(FULL);
    let instance = wgpu::Instance::new(descriptor);
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let mut adapters: Vec<_> = found
        .into_iter()
        .map(|a| (AdapterSummary::new(&a), a))
        .collect();
    adapters.sort_by_key(|(s, _)| s.rank());
    for (index, (summary, _)) in adapters.iter_mut().enumerate() {
        summary.index = index;
    }
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
    let each = adapters
        .iter()
        .map(|a| format!("{}: {} [{}]", a.index, a.name, a.kind));
    each.collect::<Vec<_>>().join(", ")
}

/// Which of the adapters a number, a PCI address or a part of a name (in any case) means; nothing means the first.
fn meant(adapters: &[AdapterSummary], wanted: &str) -> Option<usize> {
    let needle = wanted.trim().to_lowercase();
    // Longer numbers are of products: a part of a name.
    if (1..=2).contains(&needle.len()) && needle.bytes().all(|b| b.is_ascii_digit()) {
        return needle.parse().ok().filter(|&n| n < adapters.len());
    }
    let pci = |a: &AdapterSummary| !a.pci.is_empty() && a.pci.to_lowercase() == needle;
    let name = |a: &AdapterSummary| a.name.to_lowercase().contains(&needle);
    let found = adapters.iter().position(pci);
    found.or_else(|| adapters.iter().position(name))
}

/// How to ask for the adapter that made a record: by its PCI address where it is still there, else by name.
pub fn recorded(device: &DeviceInfo) -> String {
    let same = |a: &AdapterSummary| a.pci == device.pci && a.name == device.device;
    match !device.pci.is_empty() && list_adapters().iter().any(same) {
        true => device.pci.clone(),
        false => device.device.clone(),
    }
}

/// The adapter that `wanted` means, or the best one, software included.
pub(super) fn find(wanted: Option<&str>) -> Result<(AdapterSummary, wgpu::Adapter), EngineError> {
    let mut adapters = enumerate();
    let listed: Vec<AdapterSummary> = adapters.iter().map(|(s, _)| s.clone()).collect();
    match meant(&listed, wanted.unwrap_or("")) {
        Some(index) => Ok(adapters.swap_remove(index)),
        None => Err(EngineError::NoAdapter {
            wanted: wanted.map_or(String::new(), |w| format!(" {w:?}")),
            reason: if listed.is_empty() {
                "none was found; install a Vulkan, Metal or DirectX 12 driver, \
                         or use the CPU backend"
                    .into()
            } else {
                format!(
                    "give a number, a PCI address or a part of a name: {}",
                    names(&listed)
                )
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: &'static str) -> AdapterSummary {
        AdapterSummary {
            index: 0,
            name: name.into(),
            kind,
            driver: String::new(),
            backend: "vulkan".into(),
            pci: String::new(),
            memory: 1 << 33,
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

    #[test]
    fn one_of_two_cards_of_a_kind_is_meant_by_number_or_address() {
        let mut all = vec![
            adapter("GeForce RTX 4090", "discrete-gpu"),
            adapter("GeForce RTX 4090", "discrete-gpu"),
            adapter("llvmpipe (LLVM 15)", SOFTWARE),
        ];
        all[0].pci = "0000:01:00.0".into();
        all[1].pci = "0000:C1:00.0".into();
        for (wanted, index) in [
            ("", Some(0)),
            ("1", Some(1)),
            (" 2 ", Some(2)),
            ("0000:c1:00.0", Some(1)),
            ("0000:01:00.0", Some(0)),
            ("LLVM", Some(2)),
            ("4090", Some(0)),
            ("3", None),
            ("40", None),
            ("0000:02:00.0", None),
        ] {
            assert_eq!(meant(&all, wanted), index, "{wanted}");
        }
        assert_eq!(meant(&[], ""), None);
    }
}
