//! One opened adapter: its queue, the cache of pipelines, and errors turned into [`EngineError`]s.

use std::collections::HashMap;
use std::sync::mpsc::TryRecvError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::adapter::{self, AdapterSummary};
use super::library::Code;
use super::profile::{Profiler, Timed};
use super::tile::Tile;
use crate::engine::EngineError;

/// Caps below the adapter's own limits, and the choice of kernels; the default is the adapter's best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Most bytes a kernel may see of one buffer.
    pub max_binding: Option<u64>,
    /// Most workgroups along one dimension.
    pub max_workgroups: Option<u32>,
    /// How convolutions and dense layers are blocked.
    pub blocking: Option<Blocking>,
    /// The tile of [`Blocking::Tiled`], whatever the layer.
    pub tile: Option<Tile>,
    /// Variants one by one, each reduced in passes of its own over memory: what fusing is compared with.
    pub separate: bool,
    /// Takes the time of every launch, for [`Gpu::timed`]; refused by adapters without time stamps.
    pub profile: bool,
}

/// How convolutions and dense layers are blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Register blocking straight from storage buffers; runs everywhere.
    Registers,
    /// Vectors of 8 lanes that share their weights; suits software adapters whose subgroups are such vectors.
    Lanes,
    /// Tiles in workgroup memory; suits GPUs.
    Tiled,
}

const SUBGROUP: wgpu::Features = wgpu::Features::SUBGROUP;
const STAMPS: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY;

/// A compiled kernel.
#[derive(Clone)]
pub struct Pipeline {
    /// The pipeline.
    pub pipeline: wgpu::ComputePipeline,
    /// Layout of its bind group.
    pub layout: wgpu::BindGroupLayout,
}

type PipelineKey = (&'static str, Vec<(&'static str, u64)>);

/// An opened adapter.
pub struct Gpu {
    /// What it is.
    pub summary: AdapterSummary,
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// Most bytes a kernel may see of one buffer.
    pub max_binding: u64,
    /// Most workgroups along one dimension.
    pub max_workgroups: u32,
    /// How convolutions and dense layers are blocked.
    pub blocking: Blocking,
    /// The tile of matrix products, whatever the layer.
    pub tile: Option<Tile>,
    /// Bound where a kernel writes nothing.
    pub spare: wgpu::Buffer,
    /// Whether variants run one by one and are reduced in passes of their own.
    pub separate: bool,
    /// Where launches are timed.
    pub profiler: Option<Profiler>,
    pipelines: Mutex<HashMap<PipelineKey, Pipeline>>,
    faults: Arc<Faults>,
}

/// What the driver reports outside of calls.
#[derive(Default)]
struct Faults {
    lost: Mutex<Option<String>>,
    uncaptured: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn describe(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => "out of memory; use a smaller batch".into(),
        other => other.to_string(),
    }
}

impl Gpu {
    /// Opens an adapter with its full limits.
    pub fn open(wanted: Option<&str>, options: GpuOptions) -> Result<Self, EngineError> {
        let (summary, adapter) = adapter::find(wanted)?;
        let limits = adapter.limits();
        let software = summary.is_software();
        let vectors = summary.subgroups == (8, 8) && adapter.features().contains(SUBGROUP);
        let blocking = match options.blocking {
            Some(Blocking::Lanes) if !vectors => {
                return Err(EngineError::Device {
                    device: summary.name,
                    problem: "has no subgroups of 8 lanes; choose another blocking".into(),
                });
            }
            Some(blocking) => blocking,
            None if !software => Blocking::Tiled,
            None if vectors => Blocking::Lanes,
            None => Blocking::Registers,
        };
        let mut required_features = wgpu::Features::empty();
        required_features.set(SUBGROUP, blocking == Blocking::Lanes);
        required_features.set(STAMPS, options.profile);
        if options.profile && !adapter.features().contains(STAMPS) {
            return Err(EngineError::Device {
                device: summary.name,
                problem: "has no time stamps; its kernels cannot be timed one by one".into(),
            });
        }
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("quantbound"),
            required_features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        });
        let (device, queue) = pollster::block_on(request).map_err(|e| EngineError::Device {
            device: summary.name.clone(),
            problem: format!("cannot be opened: {e}"),
        })?;
        let faults = Arc::new(Faults::default());
        let sink = Arc::clone(&faults);
        device.set_device_lost_callback(move |reason, message| {
            *lock(&sink.lost) = Some(format!("{reason:?}: {message}"));
        });
        let sink = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error| {
            lock(&sink.uncaptured).push(describe(&error));
        }));
        let spare = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("spare"),
            size: 32,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let cap = limits.max_storage_buffer_binding_size & !255;
        Ok(Self {
            device,
            queue,
            max_binding: options.max_binding.unwrap_or(cap).min(cap),
            max_workgroups: options
                .max_workgroups
                .unwrap_or(u32::MAX)
                .min(limits.max_compute_workgroups_per_dimension),
            blocking,
            tile: options.tile,
            spare,
            separate: options.separate,
            profiler: options.profile.then(Profiler::default),
            summary,
            pipelines: Mutex::default(),
            faults,
        })
    }

    /// An error of this device.
    pub fn problem(&self, problem: impl Into<String>) -> EngineError {
        EngineError::Device {
            device: self.summary.name.clone(),
            problem: problem.into(),
        }
    }

    fn lost(&self, reason: impl Into<String>) -> EngineError {
        EngineError::Lost {
            device: self.summary.name.clone(),
            reason: reason.into(),
        }
    }

    /// Runs `work` and returns the first error the device raised meanwhile.
    pub fn guard<T>(&self, work: impl FnOnce() -> T) -> Result<T, EngineError> {
        let scopes = [
            wgpu::ErrorFilter::Validation,
            wgpu::ErrorFilter::Internal,
            wgpu::ErrorFilter::OutOfMemory,
        ]
        .map(|filter| self.device.push_error_scope(filter));
        let result = work();
        let mut raised = None;
        // Scopes nest: the last pushed is popped first.
        for scope in scopes.into_iter().rev() {
            raised = pollster::block_on(scope.pop()).or(raised);
        }
        if raised.is_some() {
            // A lost device raises errors about whatever is asked of it; its callback runs in a poll. What the poll
            // itself has to say adds nothing.
            let _ = self.device.poll(wgpu::PollType::Poll);
        }
        self.health()?;
        match raised {
            Some(error) => Err(self.problem(describe(&error))),
            None => Ok(result),
        }
    }

    /// Errors that the driver reported outside of calls.
    fn health(&self) -> Result<(), EngineError> {
        if let Some(reason) = lock(&self.faults.lost).as_ref() {
            return Err(self.lost(reason));
        }
        match lock(&self.faults.uncaptured).pop() {
            Some(problem) => Err(self.problem(problem)),
            None => Ok(()),
        }
    }

    /// A storage buffer of at least `bytes` bytes that can be copied from and to.
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<wgpu::Buffer, EngineError> {
        self.create(
            label,
            bytes,
            wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
        )
    }

    /// Copies `(from, bytes, to, offset)` now, before whatever is submitted later.
    pub fn copy(
        &self,
        copies: &[(&wgpu::Buffer, u64, &wgpu::Buffer, u64)],
    ) -> Result<(), EngineError> {
        self.guard(|| {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            for &(from, bytes, to, offset) in copies {
                encoder.copy_buffer_to_buffer(from, 0, to, offset, bytes);
            }
            self.queue.submit([encoder.finish()]);
        })
    }

    /// A storage buffer with the given contents.
    pub fn upload<T: bytemuck::NoUninit>(
        &self,
        label: &str,
        contents: &[T],
    ) -> Result<wgpu::Buffer, EngineError> {
        let bytes: &[u8] = bytemuck::cast_slice(contents);
        let buffer = self.buffer(label, bytes.len() as u64)?;
        self.guard(|| self.queue.write_buffer(&buffer, 0, bytes))?;
        Ok(buffer)
    }

    pub(super) fn create(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, EngineError> {
        let size = bytes.next_multiple_of(16).max(16);
        let limit = self.summary.max_buffer;
        if size > limit {
            return Err(self.problem(format!(
                "{label} needs a buffer of {size} bytes, the adapter allows {limit}; use a smaller batch"
            )));
        }
        self.guard(|| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        })
    }

    /// The compiled kernel with the given override constants; compiled on first use.
    pub fn pipeline(
        &self,
        kernel: &'static Code,
        constants: &[(&'static str, f64)],
    ) -> Result<Pipeline, EngineError> {
        let key = (
            kernel.name,
            constants.iter().map(|&(n, v)| (n, v.to_bits())).collect(),
        );
        let mut cache = lock(&self.pipelines);
        if let Some(found) = cache.get(&key) {
            return Ok(found.clone());
        }
        let made = self.guard(|| self.compile(kernel, constants))?;
        cache.insert(key, made.clone());
        Ok(made)
    }

    fn compile(&self, kernel: &Code, constants: &[(&str, f64)]) -> Pipeline {
        let label = Some(kernel.name);
        let module = self
            .device
            .create_shader_module(wgpu::ShaderModuleDescriptor {
                label,
                source: wgpu::ShaderSource::Wgsl(kernel.assembled().into()),
            });
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
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label,
                entries: &entries,
            });
        let pipeline_layout = self
            .device
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label,
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
        let pipeline = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label,
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants,
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            });
        Pipeline { pipeline, layout }
    }

    /// The launches since the last call, in order, and their times; none without [`GpuOptions::profile`].
    pub fn timed(&self) -> Result<Vec<Timed>, EngineError> {
        const PATIENCE: Duration = Duration::from_secs(600);
        let mut times = Vec::new();
        let tick = 1e-9 * f64::from(self.queue.get_timestamp_period());
        for waiting in self.profiler.iter().flat_map(Profiler::take) {
            let spans = self.read(&waiting.stamps, PATIENCE, |bytes| {
                let stamps: &[[u64; 2]] = bytemuck::cast_slice(bytes);
                let span = |&[start, end]: &[u64; 2]| tick * end.saturating_sub(start) as f64;
                stamps.iter().map(span).collect::<Vec<_>>()
            })?;
            let pairs = waiting.launches.into_iter().zip(spans);
            times.extend(pairs.map(|(launch, seconds)| Timed { launch, seconds }));
        }
        Ok(times)
    }

    /// Maps a read-back buffer after all submitted work and hands its bytes to `take`. Gives up when the
    /// device is lost or silent for `patience`.
    pub fn read<T>(
        &self,
        buffer: &wgpu::Buffer,
        patience: Duration,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, EngineError> {
        const STEP: Duration = Duration::from_secs(1);
        let (sender, receiver) = std::sync::mpsc::channel();
        self.guard(|| {
            buffer.map_async(wgpu::MapMode::Read, .., move |result| {
                // The receiver is gone only when the wait was given up.
                let _ = sender.send(result);
            });
        })?;
        let start = Instant::now();
        loop {
            let polled = self.device.poll(wgpu::PollType::Wait {
                submission_index: None,
                timeout: Some(STEP),
            });
            match receiver.try_recv() {
                Ok(Ok(())) => break,
                Ok(Err(e)) => {
                    self.health()?;
                    return Err(self.problem(format!("reading results back: {e}")));
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    return Err(self.lost("the read-back was dropped"));
                }
            }
            self.health()?;
            if let Err(e @ wgpu::PollError::WrongSubmissionIndex(..)) = polled {
                return Err(self.problem(e.to_string()));
            }
            if start.elapsed() > patience {
                return Err(self.lost(format!("no answer for {} s", patience.as_secs())));
            }
        }
        let view = buffer
            .get_mapped_range(..)
            .map_err(|e| self.problem(format!("reading results back: {e}")))?;
        let result = take(&view);
        drop(view);
        buffer.unmap();
        self.health()?;
        Ok(result)
    }
}
