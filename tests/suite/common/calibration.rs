//! Calibration by the literal forward pass: every walk step runs both networks from the start.

use quantbound::network::{INPUT, Network};
use quantbound::quant::{
    Calibration, LayerInputs, Observed, QuantError, QuantizedLayer, QuantizedNetwork, Walk,
};
use quantbound::tensor::Batch;
use quantbound::tensor::histogram::{Bins, Histogram};

use super::naive::forward;

/// Images for [`forward`].
pub struct Naive(pub Batch);

impl Calibration for Naive {
    fn walk<'a>(&'a self, network: &'a Network) -> Result<Box<dyn Walk + 'a>, QuantError> {
        Ok(Box::new(NaiveWalk {
            images: &self.0,
            network,
            done: QuantizedNetwork::default(),
            inputs: [self.0.clone(), self.0.clone()],
        }))
    }

    fn observe(&self, network: &Network, most_bins: usize) -> Result<Vec<Observed>, QuantError> {
        let mut values = vec![Vec::new(); network.nodes.len()];
        for i in 0..self.0.images() {
            let image: Vec<f64> = self.0.image(i).iter().map(|&x| f64::from(x)).collect();
            for (all, own) in values.iter_mut().zip(forward(network, &image)) {
                all.extend(own);
            }
        }
        let observed = |values: &Vec<f64>| {
            let min = values.iter().copied().reduce(f64::min).unwrap();
            let max = values.iter().copied().reduce(f64::max).unwrap();
            let histogram = Histogram::of(Bins::covering(min, max, most_bins), values);
            Observed {
                min,
                max,
                histogram,
            }
        };
        Ok(values.iter().map(observed).collect())
    }
}

struct NaiveWalk<'a> {
    images: &'a Batch,
    network: &'a Network,
    done: QuantizedNetwork,
    inputs: [Batch; 2],
}

impl Walk for NaiveWalk<'_> {
    fn inputs(&mut self, node: usize) -> Result<LayerInputs<'_>, QuantError> {
        let quantized = self.done.dequantize(self.network);
        self.inputs = [self.network, &quantized].map(|n| layer_input(n, node, self.images));
        let [full, quantized] = &self.inputs;
        Ok(LayerInputs { full, quantized })
    }

    fn set(&mut self, layer: &QuantizedLayer) {
        self.done.layers.push(layer.clone());
    }
}

/// What node `node` reads on every image, rounded to f32.
pub fn layer_input(network: &Network, node: usize, images: &Batch) -> Batch {
    let value = network.nodes[node].inputs[0];
    let mut data = Vec::new();
    for i in 0..images.images() {
        let image: Vec<f64> = images.image(i).iter().map(|&x| f64::from(x)).collect();
        match value {
            INPUT => data.extend(image.iter().map(|&x| x as f32)),
            v => data.extend(forward(network, &image)[v - 1].iter().map(|&x| x as f32)),
        }
    }
    Batch::new(network.shape(value), data).unwrap()
}
