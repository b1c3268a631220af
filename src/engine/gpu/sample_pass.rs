//! Per-sample bounds on the device: one pass over a batch that carries errors beside reference maps. Only the largest
//! bound of each map and two counts come back.
//!
//! Errors are f32 divided by a power of two per value, `2^0` at first. Where they outgrow f32 the pass is repeated with
//! the powers that its extents asked for.

use super::arena::Arena;
use super::device::Gpu;
use super::extent::{self, Extent};
use super::kernels::Map;
use super::pass::Recorder;
use super::sample::{self, Parts, Terms};
use super::sample_weights::SampleWeights;
use super::weights::LayerWeights;
use super::work::{Split, Work};
use super::{concat, layout, matrix, node};
use crate::engine::sample::roundings;
use crate::engine::{EngineError, SampleBound};
use crate::network::{Activation, INPUT, Network, Node, Tap, ValueId};

/// Errors above this, in their scale, ask for another one.
const LARGE: f32 = 1e30;
/// Passes at most; each adds some 30 decades.
const PASSES: usize = 40;

/// What a pass needs.
pub struct SamplePass<'a> {
    pub gpu: &'a Gpu,
    pub network: &'a Network,
    /// Reference weights by node.
    pub reference: &'a [Option<LayerWeights>],
    /// The parts that sums are made in, by node.
    pub parts: &'a [usize],
    /// Both networks' by node.
    pub weights: &'a [Option<SampleWeights>],
    /// Values that can differ between the networks.
    pub drifts: &'a [bool],
    pub last_uses: &'a [Option<usize>],
    pub radius: f64,
    pub images: usize,
    pub arena: &'a mut Arena,
}

/// A value on the device.
#[derive(Clone, Default)]
struct Value {
    y: Option<wgpu::Buffer>,
    /// None where nothing can differ.
    error: Option<wgpu::Buffer>,
    /// None outside of balls.
    reach: Option<wgpu::Buffer>,
}

/// Extents of errors and of reaches, `[node][image]`.
struct Found {
    error: Vec<Vec<Extent>>,
    reach: Vec<Vec<Extent>>,
}

impl SamplePass<'_> {
    /// The bounds `[image][tap]` of the batch in `input`.
    pub fn run(
        &mut self,
        input: &wgpu::Buffer,
        taps: &[Tap],
        staging: impl Fn(u64) -> Result<wgpu::Buffer, EngineError>,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        let mut shrinks = vec![0; self.network.nodes.len()];
        let mut passes = 0;
        loop {
            let scales = self.scales(&shrinks);
            let found = self.pass(input, &shrinks, &scales, &staging)?;
            passes += 1;
            // Where another power changes nothing, the overflow is not one of scale.
            let differs = |wanted: &Vec<i32>| {
                let pairs = wanted.iter().zip(&shrinks);
                pairs.into_iter().any(|(w, s)| (w - s).abs() > 1)
            };
            let wanted = self.wanted(&found, &scales).filter(differs);
            if let Some(wanted) = wanted.filter(|_| passes < PASSES) {
                shrinks = wanted;
                continue;
            }
            return Ok(self.bounds(&found, &scales, taps));
        }
    }

    /// The power of two by which each value's errors are divided. A capped activation starts again at 0.
    fn scales(&self, shrinks: &[i32]) -> Vec<i32> {
        let mut scales = vec![0; self.network.nodes.len() + 1];
        for (i, node) in self.network.nodes.iter().enumerate() {
            scales[i + 1] = match node.activation.cap() {
                Some(_) => 0,
                None => self.scale_in(node, &scales) + shrinks[i],
            };
        }
        scales
    }

    fn scale_in(&self, node: &Node, scales: &[i32]) -> i32 {
        node.inputs.iter().map(|&v| scales[v]).max().unwrap_or(0)
    }

    /// Powers that bring every error seen so far to about 1, if some error is too large.
    fn wanted(&self, found: &Found, scales: &[i32]) -> Option<Vec<i32>> {
        let too_large = |e: &Extent| e.infinite > 0 || e.largest > LARGE;
        if !found.error.iter().flatten().any(too_large) {
            return None;
        }
        let mut shrinks = vec![0; self.network.nodes.len()];
        let mut new = vec![0; scales.len()];
        for (i, node) in self.network.nodes.iter().enumerate() {
            let before = self.scale_in(node, &new);
            let largest = found.error[i].iter().map(|e| e.largest);
            let largest = largest.fold(0.0, f32::max);
            // A map that overflows in part says too little of how large it is, but not too much.
            let power = f64::from(largest).log2().ceil() + f64::from(scales[i + 1]);
            if node.activation.cap().is_none() && largest > 0.0 {
                // One power of two at most fits the two factors of a launch.
                shrinks[i] = (power as i32 - before).clamp(0, 200);
                new[i + 1] = before + shrinks[i];
            } else if node.activation.cap().is_none() {
                new[i + 1] = before;
            }
        }
        Some(shrinks)
    }

    fn pass(
        &mut self,
        input: &wgpu::Buffer,
        shrinks: &[i32],
        scales: &[i32],
        staging: impl Fn(u64) -> Result<wgpu::Buffer, EngineError>,
    ) -> Result<Found, EngineError> {
        let (gpu, network, images) = (self.gpu, self.network, self.images);
        let nodes = network.nodes.len();
        let bytes = (2 * nodes * images * extent::WORDS * 4) as u64;
        // Zeros, as new buffers are.
        let extents = gpu.buffer("extents", bytes)?;
        let widest = (0..=nodes).map(|v| layout::bytes(network.shape(v), images));
        let zeros = gpu.buffer("zeros", widest.max().unwrap_or(0))?;
        let mut values = vec![Value::default(); nodes + 1];
        values[INPUT].y = Some(input.clone());
        if self.radius > 0.0 {
            let len = images * network.input.len();
            let reach = vec![(self.radius as f32).next_up(); len];
            values[INPUT].reach = Some(gpu.upload("reach", &layout::pack(network.input, &reach))?);
        }
        let mut rec = Recorder::new(gpu);
        for (i, node) in network.nodes.iter().enumerate() {
            rec.at(i, &node.name, images);
            let value = self.node(&mut rec, i, &values, shrinks[i], scales, &zeros)?;
            if let Some(error) = &value.error {
                let capped = value.y.as_ref().filter(|_| node.activation.cap().is_some());
                let capped = capped.map(|y| (y, value.reach.as_ref()));
                extent::record(
                    &mut rec,
                    self.map(error, i + 1),
                    capped,
                    &extents,
                    i * images,
                )?;
            }
            if let Some(reach) = &value.reach {
                let base = (nodes + i) * images;
                extent::record(&mut rec, self.map(reach, i + 1), None, &extents, base)?;
            }
            let passes = if self.radius > 0.0 { 6 } else { 4 };
            rec.account(passes * node.macs() as u64 * images as u64)?;
            values[i + 1] = value;
            for &v in node.inputs.iter().chain([&(i + 1)]) {
                if self.last_uses[v].is_none_or(|last| last == i) {
                    let Value { y, error, reach } = std::mem::take(&mut values[v]);
                    let y = y.filter(|_| v != INPUT);
                    let free = [y, error, reach].into_iter().flatten();
                    free.for_each(|b| self.arena.release(b));
                }
            }
        }
        let back = staging(bytes)?;
        let work = rec.finish(&[(&extents, bytes, &back, 0)])?;
        gpu.read(&back, &work, |data| {
            let words: &[u32] = bytemuck::cast_slice(&data[..bytes as usize]);
            let all: Vec<Extent> = words.chunks(extent::WORDS).map(Extent::read).collect();
            let rows = |part: &[Extent]| part.chunks(images).map(<[Extent]>::to_vec).collect();
            let (error, reach) = all.split_at(nodes * images);
            Found {
                error: rows(error),
                reach: rows(reach),
            }
        })
    }

    fn map<'b>(&self, buffer: &'b wgpu::Buffer, value: ValueId) -> Map<'b> {
        Map {
            buffer,
            shape: self.network.shape(value),
            images: self.images,
        }
    }

    fn fresh(&mut self, value: ValueId) -> Result<wgpu::Buffer, EngineError> {
        let bytes = layout::bytes(self.network.shape(value), self.images);
        self.arena.acquire(self.gpu, bytes)
    }

    fn node(
        &mut self,
        rec: &mut Recorder<'_>,
        i: usize,
        values: &[Value],
        shrink: i32,
        scales: &[i32],
        zeros: &wgpu::Buffer,
    ) -> Result<Value, EngineError> {
        let (network, id) = (self.network, i + 1);
        let node = &network.nodes[i];
        let (reference, weights) = (self.reference, self.weights);
        let (full, derived) = (reference[i].as_ref(), weights[i].as_ref());
        let mut done: Vec<wgpu::Buffer> = Vec::new();
        let mut buffers = Vec::new();
        for &v in &node.inputs {
            let y = values[v].y.clone();
            buffers.push(y.ok_or_else(|| EngineError::Usage(format!("value {v} is gone")))?);
        }
        let pre = self.apply(rec, i, full, &buffers)?;

        let n = roundings(node, network.shape(node.inputs[0]));
        let scale = self.scale_in(node, scales);
        let mut terms = Terms::new(n, derived.map_or(n as f64, |w| w.norm));
        if derived.is_none() {
            // Magnitudes of one network stand for both.
            terms.rounding *= 2.0;
        }
        let in_ball = self.radius > 0.0;
        let drifts = self.drifts[id];
        let sizes = if n > 0 && (in_ball || drifts) {
            let mut magnitudes = Vec::new();
            for (&v, y) in node.inputs.iter().zip(&buffers) {
                magnitudes.push(self.magnitudes(rec, v, y, values[v].reach.as_ref(), &mut done)?);
            }
            Some(self.apply(rec, i, derived.map(|w| &w.both), &magnitudes)?)
        } else {
            None
        };
        let ball = derived.and_then(|w| w.ball.as_ref());
        let reaches: Vec<wgpu::Buffer> = node
            .inputs
            .iter()
            .filter_map(|&v| values[v].reach.clone())
            .collect();
        let through_reach = if in_ball {
            Some(self.apply(rec, i, ball.map(|(w, _)| w), &reaches)?)
        } else {
            None
        };
        let error = if drifts {
            let mut errors = Vec::new();
            for &v in &node.inputs {
                errors.push(match &values[v].error {
                    None => zeros.clone(),
                    Some(e) if scales[v] == scale => e.clone(),
                    Some(e) => {
                        let out = self.fresh(v)?;
                        let parts = Parts {
                            through: Some(e),
                            ..Parts::default()
                        };
                        let terms = Terms {
                            scale,
                            shrink: scale - scales[v],
                            ..Terms::plain()
                        };
                        let map = self.map(e, v);
                        sample::record(rec, map, parts, &terms, Activation::Identity, &out)?;
                        done.push(out.clone());
                        out
                    }
                });
            }
            let through = self.apply(rec, i, derived.map(|w| &w.variant), &errors)?;
            let change = derived.and_then(|w| w.change.as_ref());
            let local = match change {
                Some(w) => Some(self.apply(rec, i, Some(w), &buffers)?),
                None => None,
            };
            let spread = match (change, ball) {
                (Some(_), Some((_, w))) => Some(self.apply(rec, i, Some(w), &reaches)?),
                _ => None,
            };
            let e = self.fresh(id)?;
            let parts = Parts {
                through: Some(&through),
                local: local.as_ref(),
                sizes: sizes.as_ref(),
                spread: spread.as_ref(),
                reach: through_reach.as_ref(),
            };
            let capped = node.activation.cap().is_some();
            let terms = Terms {
                scale,
                shrink: if capped { 0 } else { shrink },
                ..terms
            };
            sample::record(rec, self.map(&pre, id), parts, &terms, node.activation, &e)?;
            done.extend([Some(through), local, spread].into_iter().flatten());
            Some(e)
        } else {
            None
        };
        let reach = match &through_reach {
            None => None,
            Some(through) => {
                let reach = self.fresh(id)?;
                let parts = Parts {
                    through: Some(through),
                    sizes: sizes.as_ref(),
                    ..Parts::default()
                };
                let terms = Terms {
                    rounding: 2.0 * terms.rounding,
                    ..terms
                };
                sample::record(
                    rec,
                    self.map(&pre, id),
                    parts,
                    &terms,
                    node.activation,
                    &reach,
                )?;
                Some(reach)
            }
        };
        done.extend([sizes, through_reach].into_iter().flatten());
        let y = match node.activation {
            Activation::Identity => pre,
            act => {
                let y = self.fresh(id)?;
                concat::record(rec, &[self.map(&pre, id)], self.map(&y, id), act)?;
                done.push(pre);
                y
            }
        };
        done.into_iter().for_each(|b| self.arena.release(b));
        Ok(Value {
            y: Some(y),
            error,
            reach,
        })
    }

    /// The node with these weights and no activation.
    fn apply(
        &mut self,
        rec: &mut Recorder<'_>,
        i: usize,
        weights: Option<&LayerWeights>,
        inputs: &[wgpu::Buffer],
    ) -> Result<wgpu::Buffer, EngineError> {
        let out = self.fresh(i + 1)?;
        let node = &self.network.nodes[i];
        let maps: Vec<Map<'_>> = inputs
            .iter()
            .zip(&node.inputs)
            .map(|(b, &v)| self.map(b, v))
            .collect();
        let (y, parts) = (self.map(&out, i + 1), self.parts[i]);
        let bytes = weights.and_then(|w| matrix::sums(parts, w, y));
        let sums = bytes.map(|bytes| self.arena.acquire(self.gpu, bytes));
        let sums = sums.transpose()?;
        let work = Work {
            split: sums.as_ref().map(|sums| Split { parts, sums }),
            ..Work::PLAIN
        };
        node::record(rec, node, weights, &maps, y, Activation::Identity, work)?;
        sums.into_iter().for_each(|b| self.arena.release(b));
        Ok(out)
    }

    /// The most that elements can be in magnitude anywhere in the ball.
    fn magnitudes(
        &mut self,
        rec: &mut Recorder<'_>,
        value: ValueId,
        y: &wgpu::Buffer,
        reach: Option<&wgpu::Buffer>,
        done: &mut Vec<wgpu::Buffer>,
    ) -> Result<wgpu::Buffer, EngineError> {
        let nonnegative =
            value != INPUT && self.network.nodes[value - 1].activation.is_nonnegative();
        if nonnegative && reach.is_none() {
            return Ok(y.clone());
        }
        let out = self.fresh(value)?;
        let parts = Parts {
            through: reach,
            local: Some(y),
            ..Parts::default()
        };
        let terms = Terms {
            up: 1.0 + 1e-6,
            ..Terms::plain()
        };
        sample::record(
            rec,
            self.map(y, value),
            parts,
            &terms,
            Activation::Identity,
            &out,
        )?;
        done.push(out.clone());
        Ok(out)
    }

    /// What the extents say of each tap. What comes after a value without a bound has none either.
    fn bounds(&self, found: &Found, scales: &[i32], taps: &[Tap]) -> Vec<Vec<SampleBound>> {
        let image = |image: usize| {
            let mut lost = vec![false; scales.len()];
            let mut invalid = vec![false; scales.len()];
            for (i, node) in self.network.nodes.iter().enumerate() {
                let own = [found.error[i][image], found.reach[i][image]];
                let before = |flags: &[bool]| node.inputs.iter().any(|&v| flags[v]);
                lost[i + 1] = own.iter().any(|e| e.infinite > 0) || before(&lost);
                invalid[i + 1] = own.iter().any(|e| e.undefined > 0) || before(&invalid);
            }
            let tap = |tap: &Tap| {
                let (node, value) = (&self.network.nodes[tap.node], tap.node + 1);
                let extent = found.error[tap.node][image];
                let bound = match (self.drifts[value], invalid[value], lost[value]) {
                    (false, _, _) => 0.0,
                    (_, true, _) => f64::NAN,
                    (_, _, true) => f64::INFINITY,
                    _ => f64::from(extent.largest) * 2f64.powi(scales[value]),
                };
                SampleBound {
                    bound,
                    capped: extent.capped,
                    count: node.shape.len() as u32,
                }
            };
            taps.iter().map(tap).collect()
        };
        (0..self.images).map(image).collect()
    }
}
