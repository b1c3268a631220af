//! Recording of kernel launches, submitted in few pieces.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::device::Gpu;
use super::library::{Kernel, Params};
use super::pipelines::Pipeline;
use super::profile::{Launched, MOST_LAUNCHES, Profiler};
use super::progress::{Span, Submitted};
use crate::engine::EngineError;

/// Multiply-accumulate operations after which recorded work is submitted; keeps driver watchdogs quiet.
const WORK_PER_SUBMISSION: u64 = 20_000_000_000;
/// Bytes between uniform structs; the largest alignment any adapter asks for.
const UNIFORM_SLOT: usize = 256;

struct Launch {
    pipeline: Pipeline,
    what: Launched,
    buffers: Vec<wgpu::Buffer>,
    workgroups: u64,
}

/// Launches in order; nothing runs before [`Recorder::finish`] or a full submission.
pub struct Recorder<'g> {
    /// The device.
    pub gpu: &'g Gpu,
    /// Bound where a kernel writes nothing.
    pub spare: &'g wgpu::Buffer,
    /// The node that launches are for, for their times, and its name.
    node: Option<(usize, String)>,
    profiler: Option<&'g Profiler>,
    launches: Vec<Launch>,
    uniforms: Vec<u8>,
    span: Span,
    submitted: Submitted,
}

impl<'g> Recorder<'g> {
    /// Records nothing yet.
    pub fn new(gpu: &'g Gpu) -> Self {
        Self {
            gpu,
            spare: &gpu.spare,
            node: None,
            profiler: gpu.profiler.as_ref(),
            launches: Vec::new(),
            uniforms: Vec::new(),
            span: Span::default(),
            submitted: Submitted::default(),
        }
    }

    /// The same, whose launches are timed by a profiler of their own.
    pub fn timed(gpu: &'g Gpu, profiler: &'g Profiler) -> Self {
        Self {
            profiler: Some(profiler),
            ..Self::new(gpu)
        }
    }

    /// Says which node the launches are for that come next, on so many images.
    pub fn at(&mut self, node: usize, name: &str, images: usize) {
        self.node = Some((node, name.to_string()));
        self.submitted.images = images;
    }

    /// Records one launch of `workgroups` workgroups, laid out in two dimensions where one is not enough.
    /// `buffers` are the kernel's inputs and then its outputs; `params` its uniform struct.
    pub fn launch<P: Params>(
        &mut self,
        kernel: &'static Kernel<P>,
        constants: &[(&'static str, f64)],
        params: &P,
        buffers: &[&wgpu::Buffer],
        workgroups: u64,
    ) -> Result<(), EngineError> {
        const { assert!(size_of::<P>() <= UNIFORM_SLOT) };
        let code = &kernel.code;
        debug_assert_eq!(buffers.len(), (code.inputs + code.outputs) as usize);
        let most = u64::from(self.gpu.max_workgroups);
        if workgroups > most * most {
            return Err(self.gpu.problem(format!(
                "{} needs {workgroups} workgroups; use a smaller batch",
                code.name
            )));
        }
        if self.launches.len() == MOST_LAUNCHES {
            self.submit(&[])?;
        }
        self.launches.push(Launch {
            pipeline: self.gpu.pipeline(code, constants)?,
            what: Launched {
                kernel: code.name,
                node: self.node.as_ref().map(|n| n.0),
            },
            buffers: buffers.iter().map(|&b| b.clone()).collect(),
            workgroups,
        });
        self.span.add(self.node.as_ref().map(|n| n.1.as_str()));
        let at = self.uniforms.len();
        self.uniforms.extend_from_slice(bytemuck::bytes_of(params));
        self.uniforms.resize(at + UNIFORM_SLOT, 0);
        Ok(())
    }

    /// Accounts for `macs` multiply-accumulate operations; submits when enough has gathered.
    pub fn account(&mut self, macs: u64) -> Result<(), EngineError> {
        self.span.macs += macs;
        if self.span.macs >= WORK_PER_SUBMISSION {
            self.submit(&[])?;
        }
        Ok(())
    }

    /// Submits everything recorded, then the copies `(from, bytes, to, offset)`.
    pub fn finish(
        mut self,
        copies: &[(&wgpu::Buffer, u64, &wgpu::Buffer, u64)],
    ) -> Result<Submitted, EngineError> {
        self.submit(copies)?;
        self.gpu.store_pipelines();
        Ok(self.submitted)
    }

    fn submit(
        &mut self,
        copies: &[(&wgpu::Buffer, u64, &wgpu::Buffer, u64)],
    ) -> Result<(), EngineError> {
        let gpu = self.gpu;
        let uniforms = gpu.create(
            "uniforms",
            self.uniforms.len() as u64,
            wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        )?;
        let (launches, work, profiler) = (&self.launches, &self.uniforms, self.profiler);
        let done = Arc::clone(&self.submitted.done);
        gpu.guard(|| {
            gpu.queue.write_buffer(&uniforms, 0, work);
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            for c in gpu.take_copies() {
                encoder.copy_buffer_to_buffer(&c.from, 0, &c.to, c.offset, c.bytes);
            }
            let dispatch = |pass: &mut wgpu::ComputePass<'_>, i: usize, launch: &Launch| {
                let group = bind(gpu, &uniforms, i * UNIFORM_SLOT, launch);
                let most = u64::from(gpu.max_workgroups);
                // Checked in `launch` to fit two dimensions.
                let x = launch.workgroups.min(most) as u32;
                let y = launch.workgroups.div_ceil(u64::from(x.max(1))) as u32;
                pass.set_pipeline(&launch.pipeline.pipeline);
                pass.set_bind_group(0, &group, &[]);
                pass.dispatch_workgroups(x, y, 1);
            };
            if let Some(profiler) = profiler {
                let queries = profiler.queries(&gpu.device, launches.len());
                for (i, launch) in launches.iter().enumerate() {
                    let stamps = wgpu::ComputePassTimestampWrites {
                        query_set: &queries,
                        beginning_of_pass_write_index: Some(2 * i as u32),
                        end_of_pass_write_index: Some(2 * i as u32 + 1),
                    };
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: Some(launch.what.kernel),
                        timestamp_writes: Some(stamps),
                    });
                    dispatch(&mut pass, i, launch);
                }
                let all = launches.iter().map(|l| l.what).collect();
                profiler.resolve(&gpu.device, &mut encoder, &queries, all);
            } else {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for (i, launch) in launches.iter().enumerate() {
                    dispatch(&mut pass, i, launch);
                }
            }
            for &(from, bytes, to, offset) in copies {
                encoder.copy_buffer_to_buffer(from, 0, to, offset, bytes);
            }
            gpu.queue.submit([encoder.finish()]);
            gpu.queue.on_submitted_work_done(move || {
                done.fetch_add(1, Ordering::Relaxed);
            });
        })?;
        self.launches.clear();
        self.uniforms.clear();
        self.submitted.spans.push(std::mem::take(&mut self.span));
        Ok(())
    }
}

/// How much a second brings of what each launch does `amount` of: of five runs of a few launches, the fastest. `y` is
/// written by them.
pub fn per_second(
    gpu: &Gpu,
    y: &wgpu::Buffer,
    amount: f64,
    launch: impl Fn(&mut Recorder<'_>) -> Result<(), EngineError>,
) -> Result<f64, EngineError> {
    const LAUNCHES: usize = 4;
    let back = gpu.create(
        "read-back",
        16,
        wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
    )?;
    let run = |launches: usize| -> Result<f64, EngineError> {
        let mut rec = Recorder::new(gpu);
        (0..launches).try_for_each(|_| launch(&mut rec))?;
        let started = Instant::now();
        let work = rec.finish(&[(y, 16, &back, 0)])?;
        gpu.read(&back, &work, |_| ())?;
        Ok(started.elapsed().as_secs_f64())
    };
    run(1)?;
    let mut fastest = f64::INFINITY;
    for _ in 0..5 {
        fastest = fastest.min(run(LAUNCHES)?);
    }
    Ok(amount * LAUNCHES as f64 / fastest)
}

/// The least time of what `launches` records by the device's clock, of three after one that is not counted.
pub fn seconds(
    gpu: &Gpu,
    launches: impl Fn(&mut Recorder<'_>) -> Result<(), EngineError>,
) -> Result<f64, EngineError> {
    const TIMES: usize = 1 + 3;
    let profiler = Profiler::default();
    let mut rec = Recorder::timed(gpu, &profiler);
    (0..TIMES).try_for_each(|_| launches(&mut rec))?;
    let work = rec.finish(&[])?;
    let times = gpu.times(&profiler, &work)?;
    let each = times.chunks_exact((times.len() / TIMES).max(1));
    let totals = each.map(|own| own.iter().map(|t| t.seconds).sum());
    Ok(totals.skip(1).fold(f64::INFINITY, f64::min))
}

fn bind(gpu: &Gpu, uniforms: &wgpu::Buffer, offset: usize, launch: &Launch) -> wgpu::BindGroup {
    let slot = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: uniforms,
        offset: offset as u64,
        size: std::num::NonZeroU64::new(UNIFORM_SLOT as u64),
    });
    let mut entries = vec![wgpu::BindGroupEntry {
        binding: 0,
        resource: slot,
    }];
    for (i, buffer) in launch.buffers.iter().enumerate() {
        entries.push(wgpu::BindGroupEntry {
            binding: i as u32 + 1,
            resource: buffer.as_entire_binding(),
        });
    }
    gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(launch.what.kernel),
        layout: &launch.pipeline.layout,
        entries: &entries,
    })
}
