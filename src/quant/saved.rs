//! Quantized networks as safetensors files: codes, scales, zero points and what made them.
//!
//! For a layer `L`: `L.codes` (U8 up to 8 bits, U16 above; the weight's shape), `L.scale` (F32), `L.zero_point` (U16); further orders k = 2.. of
//! an expansion as `L.order<k>.codes` and so on; `L.column_scale` and `L.bias` (F32) where the method has them; `L.weight` (F32), the dequantized weights, on request.
//! Where activations are quantized, a node `N` has `N.activation_scale` (F32, one value) and `N.activation_zero_point` (U16, one value);
//! `N.inner` or `N.input<k>` stands for `N` where the grid is before its activation or of one input, `.grid<n>` behind it at the n-th of a place
//! (of grids of one channel each, the header says which).
//! The metadata key `quantbound` holds a [`Header`] as JSON.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::{At, Columns, QuantizedActivation, QuantizedLayer, QuantizedNetwork, Term};
use crate::network::Network;
use crate::tensor::memory;

const KEY: &str = "quantbound";
const VERSION: u32 = 3;

/// Widths that a code may have.
const BITS: std::ops::RangeInclusive<u32> = 1..=16;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the layout.
    pub version: u32,
    /// Architecture.
    pub model: String,
    /// [`Network::content`] of the full-precision network.
    pub network: String,
    /// `Quantizer::name`.
    pub quantizer: String,
    /// The method with all its options.
    pub spec: serde_json::Value,
    /// Hash of the calibration images, if any.
    pub calibration: Option<String>,
    /// In topological order.
    pub layers: Vec<LayerHeader>,
    /// Nodes with quantized activations, in topological order.
    pub activations: Vec<ActivationHeader>,
}

/// What cannot be read off the tensors of a quantized activation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationHeader {
    /// Node name.
    pub name: String,
    /// Bit width.
    pub bits: u32,
    /// Which of the node's values.
    #[serde(default, skip_serializing_if = "is_output")]
    pub at: At,
    /// The only channel that is on the grid, where it is not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<u32>,
}

fn is_output(at: &At) -> bool {
    *at == At::Output
}

/// What cannot be read off a layer's tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerHeader {
    /// Node name.
    pub name: String,
    /// Storage width of a code.
    pub bits: u32,
    /// Orders of the expansion, 1 for a plain layer.
    pub orders: usize,
}

/// What may help against an error of the system's.
fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "; is the path right?",
        _ => "",
    }
}

/// Why a file cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// Reading or writing failed.
    #[error("{path}: {source}{}", hint(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not such a file, or a damaged one.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The file is of another network.
    #[error("{path}: does not fit {model}: {problem}")]
    Fit {
        /// The file.
        path: PathBuf,
        /// The network's name.
        model: String,
        /// What is wrong.
        problem: String,
    },
}

/// What a quantized network came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// [`Network::content`] of the full-precision network.
    pub network: String,
    /// `Quantizer::name`.
    pub quantizer: String,
    /// The method with all its options.
    pub spec: serde_json::Value,
    /// Hash of the calibration images, if any.
    pub calibration: Option<String>,
}

struct Stored {
    dtype: Dtype,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn f32(values: &[f32], dims: Vec<usize>) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let dtype = Dtype::F32;
        Self { dtype, dims, bytes }
    }

    fn u16(values: &[u16], dims: Vec<usize>) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let dtype = Dtype::U16;
        Self { dtype, dims, bytes }
    }

    fn codes(values: &[u16], dims: Vec<usize>, bits: u32) -> Self {
        if bits > 8 {
            return Self::u16(values, dims);
        }
        let bytes = values.iter().map(|&v| v as u8).collect();
        let dtype = Dtype::U8;
        Self { dtype, dims, bytes }
    }
}

/// Start of the names of a grid's tensors: the node's name, and what tells it from the node's other grids.
fn grid_name(name: &str, at: At, earlier: &[ActivationHeader]) -> String {
    let place = match at {
        At::Output => name.to_string(),
        At::Inner => format!("{name}.inner"),
        At::Input(k) => format!("{name}.input{k}"),
    };
    let same = earlier.iter().filter(|h| h.name == name && h.at == at);
    match same.count() {
        0 => place,
        n => format!("{place}.grid{}", n + 1),
    }
}

/// Prefix of the tensors of order `k`, counted from 1.
fn order(name: &str, k: usize) -> String {
    match k {
        1 => name.to_string(),
        _ => format!("{name}.order{k}"),
    }
}

/// Writes `path`, whole or not at all; with `dense` the dequantized weights too.
pub fn write(
    path: &Path,
    network: &Network,
    quantized: &QuantizedNetwork,
    origin: Origin,
    dense: bool,
) -> Result<(), SavedError> {
    let mut tensors: BTreeMap<String, Stored> = BTreeMap::new();
    let mut layers = Vec::new();
    for layer in &quantized.layers {
        let unfit = |problem: String| SavedError::Fit {
            path: path.to_path_buf(),
            model: network.name.clone(),
            problem,
        };
        let node = network.nodes.get(layer.node);
        let node = node.ok_or_else(|| unfit(format!("it has no node {}", layer.node)))?;
        layer
            .fits(node)
            .map_err(|p| unfit(format!("{}: {p}", node.name)))?;
        let (name, mut copy) = (&node.name, node.clone());
        let dims = copy.weight_mut().map_or(Vec::new(), |w| w.dims().to_vec());
        let first = (&layer.codes, &layer.scale, &layer.zero_point);
        let more = layer.residuals.iter();
        let more = more.map(|t| (&t.codes, &t.scale, &t.zero_point));
        for (k, (codes, scale, zero)) in std::iter::once(first).chain(more).enumerate() {
            let prefix = order(name, k + 1);
            let codes = Stored::codes(codes, dims.clone(), layer.bits);
            tensors.insert(format!("{prefix}.codes"), codes);
            let scale = Stored::f32(scale, vec![scale.len()]);
            tensors.insert(format!("{prefix}.scale"), scale);
            let zero = Stored::u16(zero, vec![zero.len()]);
            tensors.insert(format!("{prefix}.zero_point"), zero);
        }
        if let Some(columns) = &layer.columns {
            let scale = Stored::f32(&columns.scale, vec![columns.scale.len()]);
            tensors.insert(format!("{name}.column_scale"), scale);
        }
        if let Some(bias) = &layer.bias {
            let bias = Stored::f32(bias, vec![bias.len()]);
            tensors.insert(format!("{name}.bias"), bias);
        }
        if dense {
            let weights = layer.dequantize(dims[0]);
            tensors.insert(format!("{name}.weight"), Stored::f32(&weights, dims));
        }
        layers.push(LayerHeader {
            name: name.clone(),
            bits: layer.bits,
            orders: 1 + layer.residuals.len(),
        });
    }
    let mut activations = Vec::new();
    for grid in &quantized.activations {
        grid.fits(network).map_err(|problem| SavedError::Fit {
            path: path.to_path_buf(),
            model: network.name.clone(),
            problem,
        })?;
        let node = &network.nodes[grid.node].name;
        let name = grid_name(node, grid.at, &activations);
        let scale = Stored::f32(&[grid.scale], vec![1]);
        tensors.insert(format!("{name}.activation_scale"), scale);
        let zero = Stored::u16(&[grid.zero_point], vec![1]);
        tensors.insert(format!("{name}.activation_zero_point"), zero);
        activations.push(ActivationHeader {
            name: node.clone(),
            bits: grid.bits,
            at: grid.at,
            channel: grid.channel,
        });
    }
    let header = Header {
        version: VERSION,
        model: network.name.clone(),
        network: origin.network,
        quantizer: origin.quantizer,
        spec: origin.spec,
        calibration: origin.calibration,
        layers,
        activations,
    };
    save(path, &tensors, &header)
}

fn save(
    path: &Path,
    tensors: &BTreeMap<String, Stored>,
    header: &Header,
) -> Result<(), SavedError> {
    let wrong = |problem: String| SavedError::Format {
        path: path.to_path_buf(),
        problem,
    };
    let json = serde_json::to_string(header).map_err(|e| wrong(e.to_string()))?;
    let views = tensors.iter().map(|(name, t)| {
        let view = TensorView::new(t.dtype, t.dims.clone(), &t.bytes);
        Ok((
            name.as_str(),
            view.map_err(|e| wrong(format!("{name}: {e}")))?,
        ))
    });
    let views = views.collect::<Result<Vec<_>, SavedError>>()?;
    let metadata = HashMap::from([(KEY.to_string(), json)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| wrong(e.to_string()))?;
    let io = |source| SavedError::Io {
        path: path.to_path_buf(),
        source,
    };
    let mut temporary = path.as_os_str().to_os_string();
    temporary.push(format!(".{}.part", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written =
        std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        io(e)
    })
}

/// Reads the header alone.
pub fn read_header(path: &Path) -> Result<Header, SavedError> {
    header(path, &bytes(path)?)
}

/// Reads a file written for `network`; the codes and scales come back bit for bit.
pub fn read(path: &Path, network: &Network) -> Result<(Header, QuantizedNetwork), SavedError> {
    let bytes = bytes(path)?;
    let header = header(path, &bytes)?;
    let unfit = |problem: String| SavedError::Fit {
        path: path.to_path_buf(),
        model: network.name.clone(),
        problem,
    };
    // A plan that has several networks of one architecture tells them apart by a suffix.
    let plain = |name: &str| name.split(" [").next().map(str::to_string);
    if plain(&header.model) != plain(&network.name) {
        return Err(unfit(format!("it was written for {}", header.model)));
    }
    if header.layers.is_empty() {
        return Err(damaged(path, "it holds no layers"));
    }
    let reader = Reader {
        path,
        tensors: SafeTensors::deserialize(&bytes).map_err(|e| damaged(path, &e.to_string()))?,
    };
    let mut layers = Vec::new();
    for own in &header.layers {
        let at = network.nodes.iter().position(|n| n.name == own.name);
        let at = at.ok_or_else(|| unfit(format!("it has no layer {}", own.name)))?;
        let layer = reader.layer(own, at, network)?;
        layer
            .fits(&network.nodes[at])
            .map_err(|p| unfit(format!("{}: {p}", own.name)))?;
        layers.push(layer);
    }
    if !layers.is_sorted_by(|a: &QuantizedLayer, b| a.node < b.node) {
        return Err(damaged(path, "layers out of order"));
    }
    let mut activations = Vec::new();
    for (i, own) in header.activations.iter().enumerate() {
        let node = network.nodes.iter().position(|n| n.name == own.name);
        let node = node.ok_or_else(|| unfit(format!("it has no node {}", own.name)))?;
        let grid = reader.activation(own, node, &header.activations[..i])?;
        grid.fits(network)
            .map_err(|p| damaged(path, &format!("{}: {p}", own.name)))?;
        activations.push(grid);
    }
    if !activations.is_sorted_by_key(|a: &QuantizedActivation| (a.node, a.at)) {
        return Err(damaged(path, "activations out of order"));
    }
    Ok((
        header,
        QuantizedNetwork {
            layers,
            activations,
        },
    ))
}

fn damaged(path: &Path, what: &str) -> SavedError {
    SavedError::Format {
        path: path.to_path_buf(),
        problem: format!("{what}; the file is truncated or damaged, write it again"),
    }
}

/// What reading takes for each byte of the file: the file, its tensors, and the layers made of them.
const COPIES: usize = 3;

fn bytes(path: &Path) -> Result<Vec<u8>, SavedError> {
    memory::read_file(path, "the quantized network", COPIES).map_err(|source| SavedError::Io {
        path: path.to_path_buf(),
        source,
    })
}

fn header(path: &Path, bytes: &[u8]) -> Result<Header, SavedError> {
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|e| damaged(path, &e.to_string()))?;
    let json = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
    let wrong = |problem: String| SavedError::Format {
        path: path.to_path_buf(),
        problem,
    };
    let json = json.ok_or_else(|| {
        wrong("is a safetensors file, but not a quantized network of `quantbound quantize`".into())
    })?;
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let unreadable = |e: serde_json::Error| wrong(format!("its header cannot be read: {e}"));
    let Version { version } = serde_json::from_str(json).map_err(unreadable)?;
    if version != VERSION {
        return Err(wrong(format!(
            "has layout version {version}, this program reads {VERSION}; write it again"
        )));
    }
    serde_json::from_str(json).map_err(unreadable)
}

struct Reader<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl Reader<'_> {
    fn layer(
        &self,
        own: &LayerHeader,
        node: usize,
        network: &Network,
    ) -> Result<QuantizedLayer, SavedError> {
        if !BITS.contains(&own.bits) {
            let what = format!("{}: codes of {} bits, not 1 to 16", own.name, own.bits);
            return Err(damaged(self.path, &what));
        }
        let mut terms = Vec::new();
        for k in 1..=own.orders.max(1) {
            let prefix = order(&own.name, k);
            let term = Term {
                codes: self.u16(&format!("{prefix}.codes"))?,
                scale: self.f32(&format!("{prefix}.scale"))?,
                zero_point: self.u16(&format!("{prefix}.zero_point"))?,
            };
            let top = 1u32.checked_shl(own.bits).unwrap_or(0);
            let mut all = term.codes.iter().chain(&term.zero_point);
            if all.any(|&c| u32::from(c) >= top) {
                return Err(damaged(
                    self.path,
                    &format!("{prefix}: a code does not fit {} bits", own.bits),
                ));
            }
            if term.scale.iter().any(|s| !(*s > 0.0 && s.is_finite())) {
                return Err(damaged(
                    self.path,
                    &format!("{prefix}: a scale is not a positive number"),
                ));
            }
            terms.push(term);
        }
        let first = terms.remove(0);
        let groups = network.nodes[node].affine().map_or(1, |a| a.groups);
        let column_scale = self.optional(&format!("{}.column_scale", own.name))?;
        Ok(QuantizedLayer {
            node,
            bits: own.bits,
            codes: first.codes,
            scale: first.scale,
            zero_point: first.zero_point,
            residuals: terms,
            columns: column_scale.map(|scale| Columns { scale, groups }),
            bias: self.optional(&format!("{}.bias", own.name))?,
        })
    }

    fn activation(
        &self,
        own: &ActivationHeader,
        node: usize,
        earlier: &[ActivationHeader],
    ) -> Result<QuantizedActivation, SavedError> {
        let name = grid_name(&own.name, own.at, earlier);
        let scale = self.f32(&format!("{name}.activation_scale"))?;
        let zero = self.u16(&format!("{name}.activation_zero_point"))?;
        match (&scale[..], &zero[..]) {
            (&[scale], &[zero_point]) => Ok(QuantizedActivation {
                node,
                at: own.at,
                bits: own.bits,
                scale,
                zero_point,
                channel: own.channel,
            }),
            _ => Err(damaged(
                self.path,
                &format!(
                    "{}: {} activation scales and {} zero points, not one each",
                    own.name,
                    scale.len(),
                    zero.len()
                ),
            )),
        }
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>, SavedError> {
        let missing = |_| damaged(self.path, &format!("has no tensor {name}"));
        self.tensors.tensor(name).map_err(missing)
    }

    fn optional(&self, name: &str) -> Result<Option<Vec<f32>>, SavedError> {
        match self.tensors.tensor(name) {
            Ok(_) => self.f32(name).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>, SavedError> {
        let view = self.view(name)?;
        match view.dtype() {
            Dtype::F32 => {
                let words = view.data().as_chunks::<4>().0;
                Ok(words.iter().map(|&b| f32::from_le_bytes(b)).collect())
            }
            other => Err(damaged(self.path, &format!("{name}: {other:?}, not F32"))),
        }
    }

    fn u16(&self, name: &str) -> Result<Vec<u16>, SavedError> {
        let view = self.view(name)?;
        match view.dtype() {
            Dtype::U8 => Ok(view.data().iter().map(|&b| u16::from(b)).collect()),
            Dtype::U16 => {
                let words = view.data().as_chunks::<2>().0;
                Ok(words.iter().map(|&b| u16::from_le_bytes(b)).collect())
            }
            other => Err(damaged(
                self.path,
                &format!("{name}: {other:?}, not U8 or U16"),
            )),
        }
    }
}
