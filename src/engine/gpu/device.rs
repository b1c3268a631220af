//! One opened adapter: its queue and memory, waiting for it, and errors turned into [`EngineError`]s.

use std::path::PathBuf;
use std::sync::mpsc::TryRecvError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::adapter::{self, AdapterSummary};
use super::library::Code;
use super::memory;
pub use super::options::Blocking;
use super::options::GpuOptions;
use super::pipelines::{self, Pipeline, Pipelines};
use super::profile::{Profiler, Timed};
use super::progress::Submitted;
use super::tile::Tile;
use crate::engine::EngineError;

const SUBGROUP: wgpu::Features = wgpu::Features::SUBGROUP;
const STAMPS: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY;
const STORED_PIPELINES: wgpu::Features = wgpu::Features::PIPELINE_CACHE;

/// An opened adapter.
pub struct Gpu {
    /// What it is.
    pub summary: AdapterSummary,
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// Most bytes of a buffer.
    pub max_buffer: u64,
    /// Most bytes a kernel may see of one buffer.
    pub max_binding: u64,
    /// Most workgroups along one dimension.
    pub max_workgroups: u32,
    /// How convolutions and dense layers are blocked.
    pub blocking: Blocking,
    /// The tile of matrix products, whatever the layer.
    pub tile: Option<Tile>,
    /// The parts of the sums of matrix products, whatever the layer.
    pub parts: Option<usize>,
    /// Whether their tiles are chosen by timing them.
    pub tuned: bool,
    /// Folder where what was found stays from run to run.
    pub kept: Option<PathBuf>,
    /// Adapter and driver, in words that tell them from all others.
    pub driver: String,
    /// Bound where a kernel writes nothing.
    pub spare: wgpu::Buffer,
    /// Whether variants run one by one and are reduced in passes of their own.
    pub separate: bool,
    /// Where launches are timed.
    pub profiler: Option<Profiler>,
    /// Bytes that weights, maps and variants may take.
    pub memory: u64,
    patience: Option<Duration>,
    tell: Option<fn(&str)>,
    pipelines: Pipelines,
    copies: Mutex<Vec<Copied>>,
    faults: Arc<Faults>,
}

/// A copy of bytes from the start of one buffer to a place in another.
pub struct Copied {
    /// From here.
    pub from: wgpu::Buffer,
    /// So many.
    pub bytes: u64,
    /// To there.
    pub to: wgpu::Buffer,
    /// Where it begins.
    pub offset: u64,
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

/// The kernels that an adapter runs.
fn blocking(
    adapter: &AdapterSummary,
    subgroups: bool,
    wanted: Option<Blocking>,
) -> Result<Blocking, EngineError> {
    let vectors = adapter.subgroups == (8, 8) && subgroups;
    match wanted {
        Some(Blocking::Lanes) if !vectors => Err(EngineError::Device {
            device: adapter.name.clone(),
            problem: "has no subgroups of 8 lanes; choose another blocking".into(),
        }),
        Some(blocking) => Ok(blocking),
        None if !adapter.is_software() => Ok(Blocking::Tiled),
        None if vectors => Ok(Blocking::Lanes),
        None => Ok(Blocking::Registers),
    }
}

impl Gpu {
    /// Opens an adapter with its full limits, or the least.
    pub fn open(wanted: Option<&str>, options: GpuOptions) -> Result<Self, EngineError> {
        let (summary, adapter) = adapter::find(wanted)?;
        let (has, limits) = match options.least {
            true => (wgpu::Features::empty(), wgpu::Limits::default()),
            false => (adapter.features(), adapter.limits()),
        };
        let blocking = blocking(&summary, has.contains(SUBGROUP), options.blocking)?;
        let mut required_features = has & STORED_PIPELINES;
        required_features.set(SUBGROUP, blocking == Blocking::Lanes);
        let tuned = options.timed.unwrap_or(!summary.is_software())
            && blocking == Blocking::Tiled
            && options.tile.is_none()
            && has.contains(STAMPS);
        required_features.set(STAMPS, options.profile || tuned);
        if options.profile && !has.contains(STAMPS) {
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
            lock(&sink.uncaptured).push(error.to_string());
        }));
        let spare = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("spare"),
            size: 32,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let driver = pipelines::driver(&adapter.get_info());
        let stores = required_features.contains(STORED_PIPELINES);
        let pipelines = match options.kept.as_ref().filter(|_| stores) {
            Some(folder) => Pipelines::stored(&device, folder, &driver),
            None => Pipelines::default(),
        };
        let cap = limits.max_storage_buffer_binding_size & !255;
        Ok(Self {
            device,
            queue,
            max_buffer: limits.max_buffer_size,
            max_binding: options.max_binding.unwrap_or(cap).min(cap),
            max_workgroups: options
                .max_workgroups
                .unwrap_or(u32::MAX)
                .min(limits.max_compute_workgroups_per_dimension),
            blocking,
            tile: options.tile,
            parts: options.parts,
            tuned,
            kept: options.kept,
            driver,
            spare,
            separate: options.separate,
            profiler: options.profile.then(Profiler::default),
            memory: options.memory.unwrap_or_else(|| memory::usable(&summary)),
            patience: options.patience,
            tell: options.tell,
            summary,
            pipelines,
            copies: Mutex::default(),
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

    /// That its memory is full.
    pub fn full(&self, problem: impl Into<String>) -> EngineError {
        EngineError::Full {
            device: self.summary.name.clone(),
            problem: problem.into(),
        }
    }

    /// Tells what is done otherwise than asked.
    pub fn tell(&self, what: &str) {
        if let Some(tell) = self.tell {
            tell(&format!("{}: {what}", self.summary.name));
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
            Some(wgpu::Error::OutOfMemory { .. }) => Err(self.full("an allocation failed")),
            Some(error) => Err(self.problem(error.to_string())),
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

    /// Copies at the head of what is submitted next.
    pub fn copy(&self, copies: impl IntoIterator<Item = Copied>) {
        lock(&self.copies).extend(copies);
    }

    /// The copies that wait for a submission.
    pub fn take_copies(&self) -> Vec<Copied> {
        std::mem::take(&mut *lock(&self.copies))
    }

    /// Waits until what was given up is free again. A device that does not answer is told of by whatever is asked next.
    pub fn settle(&self) {
        const MOST: Duration = Duration::from_secs(60);
        lock(&self.copies).clear();
        let _ = self.device.poll(wgpu::PollType::Wait {
            submission_index: None,
            timeout: Some(MOST),
        });
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
        let limit = self.max_buffer;
        if size > limit {
            return Err(self.full(format!(
                "{label} needs a buffer of {size} bytes, the adapter allows {limit}"
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
        if let Some(found) = self.pipelines.get(kernel, constants) {
            return Ok(found);
        }
        let made = self.guard(|| self.pipelines.compile(&self.device, kernel, constants))?;
        self.pipelines.put(kernel, constants, made.clone());
        Ok(made)
    }

    /// Stores what was compiled, for the next run: while the device works, nobody waits for it.
    pub fn store_pipelines(&self) {
        self.pipelines.store();
    }

    /// The launches since the last call, in order, and their times; none without [`GpuOptions::profile`].
    pub fn timed(&self) -> Result<Vec<Timed>, EngineError> {
        match &self.profiler {
            Some(profiler) => self.times(profiler, &Submitted::default()),
            None => Ok(Vec::new()),
        }
    }

    /// The launches that a profiler has seen in `work` since the last call.
    pub fn times(&self, profiler: &Profiler, work: &Submitted) -> Result<Vec<Timed>, EngineError> {
        let mut times = Vec::new();
        let tick = 1e-9 * f64::from(self.queue.get_timestamp_period());
        for waiting in profiler.take() {
            let spans = self.read(&waiting.stamps, work, |bytes| {
                let stamps: &[[u64; 2]] = bytemuck::cast_slice(bytes);
                let span = |&[start, end]: &[u64; 2]| tick * end.saturating_sub(start) as f64;
                stamps.iter().map(span).collect::<Vec<_>>()
            })?;
            let pairs = waiting.launches.into_iter().zip(spans);
            times.extend(pairs.map(|(launch, seconds)| Timed { launch, seconds }));
        }
        Ok(times)
    }

    /// Maps a read-back buffer after all submitted work and hands its bytes to `take`. Gives up when the device is lost, or
    /// when nothing of `work` finishes for as long as that may take.
    pub fn read<T>(
        &self,
        buffer: &wgpu::Buffer,
        work: &Submitted,
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
        let (mut since, mut finished) = (Instant::now(), work.finished());
        loop {
            let software = self.summary.is_software();
            let patience = self.patience.unwrap_or_else(|| work.patience(software));
            let polled = self.device.poll(wgpu::PollType::Wait {
                submission_index: None,
                timeout: Some(STEP.min(patience)),
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
            if work.finished() != finished {
                (since, finished) = (Instant::now(), work.finished());
            }
            if since.elapsed() >= patience {
                let reason = format!(
                    "it finished nothing for {:.1} s and hangs {}",
                    patience.as_secs_f64(),
                    work.at()
                );
                // It stays lost: what is asked of it from here on would wait again.
                lock(&self.faults.lost).get_or_insert_with(|| reason.clone());
                return Err(self.lost(reason));
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

    /// Gives the device up, as a driver does that resets it: to try what comes of it.
    pub fn lose(&self) {
        self.device.destroy();
    }
}
