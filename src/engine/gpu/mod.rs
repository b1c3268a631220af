//! (in the making)

pub mod adapter {
    pub struct AdapterSummary {
        pub name: String,
        pub kind: &'static str,
        pub driver: String,
        pub backend: String,
        pub max_storage_binding: u64,
        pub max_buffer: u64,
        pub workgroup_memory: u32,
        pub max_workgroups: u32,
        pub subgroups: (u32, u32),
    }
    pub struct AutoChoice {
        pub adapter: Option<AdapterSummary>,
        pub reason: String,
    }
    pub fn list_adapters() -> Vec<AdapterSummary> {
        Vec::new()
    }
    pub fn auto_choice() -> AutoChoice {
        AutoChoice {
            adapter: None,
            reason: "the wgpu engine is in the making".into(),
        }
    }
}
pub struct GpuEngine;
impl GpuEngine {
    pub fn new(_: Option<&str>) -> Result<Self, super::EngineError> {
        Err(super::EngineError::Usage(
            "the wgpu engine is in the making".into(),
        ))
    }
}
impl super::Engine for GpuEngine {
    fn device(&self) -> super::DeviceInfo {
        super::DeviceInfo {
            engine: String::new(),
            device: String::new(),
            kind: String::new(),
            driver: String::new(),
            backend: String::new(),
            threads: 0,
        }
    }
    fn prepare<'a>(
        &'a self,
        _: &'a crate::network::Network,
    ) -> Result<Box<dyn super::Runner + 'a>, super::EngineError> {
        Err(super::EngineError::Usage(
            "the wgpu engine is in the making".into(),
        ))
    }
}
