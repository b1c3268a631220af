//! Recording of kernel launches, submitted in few pieces.

use std::time::Duration;

use super::device::{Gpu, Pipeline};
use super::library::{Kernel, Params};
use crate::engine::EngineError;

/// Multiply-accumulate operations after which recorded work is submitted; keeps driver watchdogs quiet.
const WORK_PER_SUBMISSION: u64 = 20_000_000_000;
/// Bytes between uniform structs; the largest alignment any adapter asks for.
const UNIFORM_SLOT: usize = 256;

struct Launch {
    pipeline: Pipeline,
    label: &'static str,
    buffers: Vec<wgpu::Buffer>,
    workgroups: u64,
}

/// Launches in order; nothing runs before [`Recorder::finish`] or a full submission.
pub struct Recorder<'g> {
    /// The device.
    pub gpu: &'g Gpu,
    launches: Vec<Launch>,
    uniforms: Vec<u8>,
    work: u64,
    total: u64,
}

impl<'g> Recorder<'g> {
    /// Records nothing yet.
    pub fn new(gpu: &'g Gpu) -> Self {
        Self {
            gpu,
            launches: Vec::new(),
            uniforms: Vec::new(),
            work: 0,
            total: 0,
        }
    }

    /// Records one launch of `workgroups` workgroups, laid out in two dimensions where one is not enough.
    /// `buffers` are the kernel's inputs and then its output; `params` its uniform struct.
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
        debug_assert_eq!(buffers.len(), code.inputs as usize + 1);
        let most = u64::from(self.gpu.max_workgroups);
        if workgroups > most * most {
            return Err(self.gpu.problem(format!(
                "{} needs {workgroups} workgroups; use a smaller batch",
                code.name
            )));
        }
        self.launches.push(Launch {
            pipeline: self.gpu.pipeline(code, constants)?,
            label: code.name,
            buffers: buffers.iter().map(|&b| b.clone()).collect(),
            workgroups,
        });
        let at = self.uniforms.len();
        self.uniforms.extend_from_slice(bytemuck::bytes_of(params));
        self.uniforms.resize(at + UNIFORM_SLOT, 0);
        Ok(())
    }

    /// Accounts for `macs` multiply-accumulate operations; submits when enough has gathered.
    pub fn account(&mut self, macs: u64) -> Result<(), EngineError> {
        self.work += macs;
        self.total += macs;
        if self.work >= WORK_PER_SUBMISSION {
            self.submit(&[])?;
        }
        Ok(())
    }

    /// Time after which a device that has not finished this work counts as lost.
    pub fn patience(&self) -> Duration {
        const SLOWEST_MACS_PER_SECOND: u64 = 20_000_000;
        Duration::from_secs(120 + self.total / SLOWEST_MACS_PER_SECOND)
    }

    /// Submits everything recorded, then the copies `(from, bytes, to, offset)`.
    pub fn finish(
        mut self,
        copies: &[(&wgpu::Buffer, u64, &wgpu::Buffer, u64)],
    ) -> Result<Duration, EngineError> {
        self.submit(copies)?;
        Ok(self.patience())
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
        let (launches, work) = (&self.launches, &self.uniforms);
        gpu.guard(|| {
            gpu.queue.write_buffer(&uniforms, 0, work);
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for (i, launch) in launches.iter().enumerate() {
                    let group = bind(gpu, &uniforms, i * UNIFORM_SLOT, launch);
                    let most = u64::from(gpu.max_workgroups);
                    // Checked in `launch` to fit two dimensions.
                    let x = launch.workgroups.min(most) as u32;
                    let y = launch.workgroups.div_ceil(u64::from(x.max(1))) as u32;
                    pass.set_pipeline(&launch.pipeline.pipeline);
                    pass.set_bind_group(0, &group, &[]);
                    pass.dispatch_workgroups(x, y, 1);
                }
            }
            for &(from, bytes, to, offset) in copies {
                encoder.copy_buffer_to_buffer(from, 0, to, offset, bytes);
            }
            gpu.queue.submit([encoder.finish()]);
        })?;
        self.launches.clear();
        self.uniforms.clear();
        self.work = 0;
        Ok(())
    }
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
        label: Some(launch.label),
        layout: &launch.pipeline.layout,
        entries: &entries,
    })
}
