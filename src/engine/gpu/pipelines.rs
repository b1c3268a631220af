//! Compiled kernels: each once in a process, and from run to run where the driver hands its code out.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::library::Code;
use crate::engine::Keep;

/// A compiled kernel.
#[derive(Clone)]
pub struct Pipeline {
    /// The pipeline.
    pub pipeline: wgpu::ComputePipeline,
    /// Layout of its bind group.
    pub layout: wgpu::BindGroupLayout,
    module: wgpu::ShaderModule,
}

/// A kernel and its override constants.
type Key = (&'static str, Vec<(&'static str, u64)>);

fn key(kernel: &Code, constants: &[(&'static str, f64)]) -> Key {
    let bits = constants.iter().map(|&(n, v)| (n, v.to_bits()));
    (kernel.name, bits.collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adapter, driver and program, in words that tell them from all others.
pub fn driver(info: &wgpu::AdapterInfo) -> String {
    format!(
        "{} {} {} {} {} {} {}",
        info.name,
        info.vendor,
        info.device,
        info.driver,
        info.driver_info,
        info.backend,
        env!("CARGO_PKG_VERSION")
    )
}

/// All of one device.
#[derive(Default)]
pub struct Pipelines {
    made: Mutex<HashMap<Key, Pipeline>>,
    stored: Option<Stored>,
}

/// Compiled code in a file.
struct Stored {
    cache: wgpu::PipelineCache,
    file: Keep,
    /// Hash of what the file has.
    hash: Mutex<Option<blake3::Hash>>,
    /// True while there is something that it may not have.
    fresh: AtomicBool,
}

impl Pipelines {
    /// Those of a device with [`wgpu::Features::PIPELINE_CACHE`], beginning with what an earlier run left in `folder` for
    /// this [`driver`].
    pub fn stored(device: &wgpu::Device, folder: &Path, driver: &str) -> Self {
        let file = Keep::new(folder, "pipelines", driver);
        let data = file.read();
        // SAFETY: the data is what `get_data` returned for this adapter and driver, by its hash; wgpu holds its own header
        // against the adapter, and the driver the rest.
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("kernels"),
                data: data.as_deref(),
                fallback: true,
            })
        };
        Self {
            stored: Some(Stored {
                cache,
                file,
                hash: Mutex::new(data.map(|d| blake3::hash(&d))),
                fresh: AtomicBool::new(false),
            }),
            ..Self::default()
        }
    }

    /// The kernel with these override constants, if it is compiled.
    pub fn get(&self, kernel: &Code, constants: &[(&'static str, f64)]) -> Option<Pipeline> {
        lock(&self.made).get(&key(kernel, constants)).cloned()
    }

    /// Keeps a kernel that compiled without an error.
    pub fn put(&self, kernel: &Code, constants: &[(&'static str, f64)], made: Pipeline) {
        lock(&self.made).insert(key(kernel, constants), made);
        if let Some(stored) = &self.stored {
            stored.fresh.store(true, Ordering::Relaxed);
        }
    }

    /// Compiles.
    pub fn compile(
        &self,
        device: &wgpu::Device,
        kernel: &Code,
        constants: &[(&str, f64)],
    ) -> Pipeline {
        let label = Some(kernel.name);
        // Modules and layouts do not depend on constants.
        let made = lock(&self.made);
        let mut known = made.iter().filter(|((name, _), _)| *name == kernel.name);
        let known = known
            .next()
            .map(|(_, p)| (p.module.clone(), p.layout.clone()));
        drop(made);
        let (module, layout) =
            known.unwrap_or_else(|| (module(device, kernel), layout(device, kernel)));
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: self.stored.as_ref().map(|s| &s.cache),
        });
        Pipeline {
            pipeline,
            layout,
            module,
        }
    }

    /// Writes what was compiled since the last call, where anything is kept. A folder that cannot be written costs the next
    /// run its time and this one nothing.
    pub fn store(&self) {
        let Some(stored) = &self.stored else { return };
        if !stored.fresh.swap(false, Ordering::Relaxed) {
            return;
        }
        let Some(data) = stored.cache.get_data() else {
            return;
        };
        let hash = Some(blake3::hash(&data));
        let mut known = lock(&stored.hash);
        if *known != hash && stored.file.write(&data).is_ok() {
            *known = hash;
        }
    }
}

fn module(device: &wgpu::Device, kernel: &Code) -> wgpu::ShaderModule {
    device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(kernel.name),
        source: wgpu::ShaderSource::Wgsl(kernel.assembled().into()),
    })
}

fn layout(device: &wgpu::Device, kernel: &Code) -> wgpu::BindGroupLayout {
    let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
    for i in 1..=kernel.inputs + kernel.outputs {
        let read_only = i <= kernel.inputs;
        entries.push(entry(i, wgpu::BufferBindingType::Storage { read_only }));
    }
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(kernel.name),
        entries: &entries,
    })
}
