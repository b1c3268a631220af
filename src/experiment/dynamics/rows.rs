//! One layer's distributions as rows of the three tables.

use super::{BINS, Scales, kind, sqnr_db};
use crate::engine::Distribution;
use crate::network::Node;
use crate::quant::QuantizedLayer;
use crate::results::schema::{
    ACTIVATIONS, CellKey, DynamicsChannelRow, DynamicsHistogramRow, DynamicsRow, WEIGHTS,
};
use crate::tensor::histogram::Bins;

/// Rows of the three tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerRows {
    /// One per layer and tensor.
    pub layers: Vec<DynamicsRow>,
    /// One per channel.
    pub channels: Vec<DynamicsChannelRow>,
    /// One per cell of the histogram.
    pub histograms: Vec<DynamicsHistogramRow>,
}

/// A layer of a cell.
#[derive(Clone, Copy)]
struct Place<'a> {
    key: &'a CellKey,
    depth: u32,
    node: &'a Node,
    tensor: &'static str,
}

/// Appends a layer's weights, each row of the kernel a channel; a layer without codes keeps its own.
pub fn weights(
    rows: &mut LayerRows,
    key: &CellKey,
    depth: u32,
    node: &Node,
    layer: Option<&QuantizedLayer>,
) {
    let Some(affine) = node.affine() else { return };
    let shape = (affine.out, affine.fan_in());
    let own = layer.map_or_else(|| affine.weight.to_vec(), |l| l.dequantize(affine.out));
    let ranges = Distribution::literal(affine.weight, affine.weight, shape, None);
    let bins = ranges.bins(BINS);
    let full = Distribution::literal(affine.weight, affine.weight, shape, Some(&bins));
    let quantized = Distribution::literal(&own, affine.weight, shape, Some(&bins));
    let place = Place {
        key,
        depth,
        node,
        tensor: WEIGHTS,
    };
    append(rows, place, bins, &full, &quantized);
}

/// Appends a layer's activations, counted in the same bins in both networks.
pub fn activations(
    rows: &mut LayerRows,
    key: &CellKey,
    depth: u32,
    node: &Node,
    bins: Bins,
    (full, quantized): (&Distribution, &Distribution),
) {
    let place = Place {
        key,
        depth,
        node,
        tensor: ACTIVATIONS,
    };
    append(rows, place, bins, full, quantized);
}

fn append(
    rows: &mut LayerRows,
    at: Place<'_>,
    bins: Bins,
    full: &Distribution,
    quantized: &Distribution,
) {
    let (own, q) = (Scales::of(full), Scales::of(quantized));
    let sound = own.layer.is_sound() && q.layer.is_sound();
    let valid = |x: f64| if sound { x } else { f64::NAN };
    let (p, p_q) = (full.histogram(bins), quantized.histogram(bins));
    rows.layers.push(DynamicsRow {
        cell_id: at.key.cell_id.clone(),
        model: at.key.model.clone(),
        quantizer: at.key.quantizer.clone(),
        bits: at.key.bits,
        granularity: at.key.granularity.name().into(),
        depth: at.depth,
        layer: at.node.name.clone(),
        kind: kind(at.node).into(),
        tensor: at.tensor.into(),
        channels: own.channels.len() as u32,
        dead_channels: own.dead as u32,
        min: valid(own.layer.min),
        max: valid(own.layer.max),
        mean: valid(own.layer.mean()),
        std: valid(own.layer.std()),
        precision: valid(own.precision),
        mismatch: valid(own.mismatch),
        fluctuation: valid(own.fluctuation),
        q_min: valid(q.layer.min),
        q_max: valid(q.layer.max),
        q_mean: valid(q.layer.mean()),
        q_std: valid(q.layer.std()),
        q_precision: valid(q.precision),
        q_mismatch: valid(q.mismatch),
        mse: valid(q.layer.mse()),
        sqnr_db: sqnr_db(&own.layer, &q.layer),
        cross_entropy: valid(p.cross_entropy(&p_q)),
        kl: valid(p.kl(&p_q)),
    });
    for (i, (c, d)) in full.channels.iter().zip(&quantized.channels).enumerate() {
        let sound = c.is_sound() && d.is_sound();
        let valid = |x: f64| if sound { x } else { f64::NAN };
        rows.channels.push(DynamicsChannelRow {
            cell_id: at.key.cell_id.clone(),
            model: at.key.model.clone(),
            quantizer: at.key.quantizer.clone(),
            bits: at.key.bits,
            granularity: at.key.granularity.name().into(),
            depth: at.depth,
            layer: at.node.name.clone(),
            kind: kind(at.node).into(),
            tensor: at.tensor.into(),
            channel: i as u32,
            min: valid(c.min),
            max: valid(c.max),
            mean: valid(c.mean()),
            std: valid(c.std()),
            precision: valid(own.channels[i]),
            q_min: valid(d.min),
            q_max: valid(d.max),
            q_mean: valid(d.mean()),
            q_std: valid(d.std()),
            q_precision: valid(q.channels[i]),
            mse: valid(d.mse()),
        });
    }
    for (cell, (&count, &q_count)) in p.counts.iter().zip(&p_q.counts).enumerate() {
        let (lo, hi) = bins.edges(cell);
        rows.histograms.push(DynamicsHistogramRow {
            cell_id: at.key.cell_id.clone(),
            model: at.key.model.clone(),
            quantizer: at.key.quantizer.clone(),
            bits: at.key.bits,
            granularity: at.key.granularity.name().into(),
            depth: at.depth,
            layer: at.node.name.clone(),
            tensor: at.tensor.into(),
            lo,
            hi,
            count: count as f64,
            q_count: q_count as f64,
        });
    }
}
