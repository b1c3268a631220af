//! An engine that counts what it is asked: the numbers are the processor's.

use std::sync::{Arc, Mutex};

use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::{
    DeviceInfo, Engine, EngineError, Owner, PerSample, Reduced, Reductions, Runner, SampleBound,
    Spread, Taps, Variant,
};
use quantbound::network::Network;
use quantbound::quant::QuantizedNetwork;
use quantbound::tensor::Batch;

/// How often what was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub prepared: usize,
    pub references: usize,
    /// Passes of whole variants whose discrepancy is reduced.
    pub compared: usize,
    /// Passes of one layer alone.
    pub alone: usize,
    /// Passes whose values' distributions are reduced.
    pub spread: usize,
    pub loaded: usize,
    pub dropped: usize,
    pub sample_bounds: usize,
    pub traced: usize,
}

/// The processor in f32 on one thread, with batches and room for variants of its own size.
pub struct Fake<E> {
    inner: E,
    max_batch: usize,
    room: u64,
    counts: Arc<Mutex<Counts>>,
}

impl Fake<CpuEngine<f32>> {
    /// Runs at most `max_batch` images at a time.
    pub fn new(max_batch: usize) -> Self {
        Self {
            inner: CpuEngine::f32(Some(1)).unwrap(),
            max_batch,
            room: u64::MAX,
            counts: Arc::default(),
        }
    }
}

impl<E> Fake<E> {
    /// Keeps so many bytes of variants.
    pub fn with_room(self, room: u64) -> Self {
        Self { room, ..self }
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap()
    }
}

impl<E: Engine> Engine for Fake<E> {
    fn device(&self) -> DeviceInfo {
        DeviceInfo {
            engine: "fake-f32".into(),
            device: "a fake".into(),
            ..self.inner.device()
        }
    }

    fn needs(&self, network: &Network) -> usize {
        self.inner.needs(network)
    }

    fn prepare<'a>(&'a self, network: &'a Network) -> Result<Box<dyn Runner + 'a>, EngineError> {
        self.counts.lock().unwrap().prepared += 1;
        Ok(Box::new(FakeRunner {
            inner: self.inner.prepare(network)?,
            owner: Owner::default(),
            max_batch: self.max_batch,
            room: self.room,
            counts: self.counts.clone(),
        }))
    }
}

struct FakeRunner<'a> {
    inner: Box<dyn Runner + 'a>,
    owner: Owner,
    max_batch: usize,
    room: u64,
    counts: Arc<Mutex<Counts>>,
}

struct Loaded {
    inner: Variant,
    counts: Arc<Mutex<Counts>>,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.counts.lock().unwrap().dropped += 1;
    }
}

impl FakeRunner<'_> {
    fn count(&self, note: impl FnOnce(&mut Counts)) {
        note(&mut self.counts.lock().unwrap());
    }

    fn inner(&self, variant: &Variant) -> Result<Variant, EngineError> {
        let loaded: &Loaded = variant.data(&self.owner)?;
        Ok(match variant.only() {
            Some(node) => loaded.inner.alone(node),
            None => loaded.inner.clone(),
        })
    }
}

impl Runner for FakeRunner<'_> {
    fn max_batch(&self) -> usize {
        self.max_batch
    }

    fn room(&self) -> u64 {
        self.room
    }

    fn load(&mut self, quantized: &QuantizedNetwork) -> Result<Variant, EngineError> {
        self.count(|c| c.loaded += 1);
        let inner = self.inner.load(quantized)?;
        let (bytes, counts) = (inner.bytes(), self.counts.clone());
        Ok(Variant::new(&self.owner, bytes, Loaded { inner, counts }))
    }

    fn reference(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        assert!(input.images() <= self.max_batch, "more than fit");
        self.count(|c| c.references += 1);
        self.inner.reference(input)
    }

    fn run(
        &mut self,
        variants: &[&Variant],
        reductions: &Reductions<'_>,
    ) -> Result<Vec<Reduced>, EngineError> {
        let mut all = Vec::new();
        for variant in variants {
            self.count(|c| {
                let compares = !matches!(reductions.discrepancy, Taps::None);
                c.alone += usize::from(variant.only().is_some());
                c.compared += usize::from(compares && variant.only().is_none());
                c.spread += usize::from(!matches!(reductions.values, Spread::None));
            });
            let inner = self.inner(variant)?;
            all.extend(self.inner.run(&[&inner], reductions)?);
        }
        Ok(all)
    }

    fn trace(
        &mut self,
        input: &Batch,
        variant: Option<&Variant>,
    ) -> Result<Vec<Batch<f64>>, EngineError> {
        self.count(|c| c.traced += 1);
        let variant = variant.map(|v| self.inner(v)).transpose()?;
        self.inner.trace(input, variant.as_ref())
    }

    fn per_sample(&mut self) -> Option<&mut dyn PerSample> {
        Some(self)
    }
}

impl PerSample for FakeRunner<'_> {
    fn bounds(
        &mut self,
        variant: &Variant,
        radius: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        self.count(|c| c.sample_bounds += 1);
        let inner = self.inner(variant)?;
        self.inner.samples()?.bounds(&inner, radius)
    }
}
