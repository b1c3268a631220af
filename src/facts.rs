//! What every bound is: its name and source, and what a sweep, a judge or a page may conclude from it.
//!
//! One table, which the bounds themselves, the sweep, the report and the command line read; none of them looks at how an id
//! is spelt. The rungs stand in ladder order, the loosest theorem first, the intersections last; then the bounds of samples.

/// Whose numbers a bound speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Of real numbers: an engine's measurement is evidence, and an f64 evaluation settles it.
    Real,
    /// Of the numbers that the measuring engine computes: its own measurement settles it.
    Engine,
}

/// Which inputs a bound holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certifies {
    /// For every input of the domain.
    ForAllInputs,
    /// For one image, or for the inputs around it.
    PerSample,
}

/// What is known of one bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundFacts {
    /// Name used in plans, tables and results; with a parameter, what stands before the colon.
    pub id: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// Where the theorem comes from.
    pub source: &'static str,
    /// Which inputs it holds for.
    pub certifies: Certifies,
    /// Whose numbers it speaks of.
    pub speaks_of: Arithmetic,
    /// The bound whose errors it clamps to the range of the values. A clamped number says how far apart two values of that
    /// range can be, and nothing of the weights.
    pub clamps: Option<&'static str>,
    /// The smallest of others at every node, no theorem of its own.
    pub is_intersection: bool,
    /// A rung of the ledger: what the rung before it gives away against it.
    pub rung: Option<&'static str>,
    /// It grows with the magnitudes of `W`, `W'` and `W' - W` and looks at nothing else, so that it can be stated for a
    /// whole ball of weights.
    pub is_monotone: bool,
    /// It changes with the units that channels come in. The others work channel by channel, where the factors cancel, or
    /// choose their own.
    pub sees_units: bool,
    /// It reads the certified spectral norms of its setting.
    pub reads_spectral_norms: bool,
    /// It holds too where the quantized network rounds its activations to grids.
    pub rounds_activations: bool,
    /// What follows the colon in ids of this kind, where one does.
    pub parameter: Option<&'static str>,
}

/// A theorem of real arithmetic for every input of the domain, invariant to units.
const THEOREM: BoundFacts = BoundFacts {
    id: "",
    title: "",
    source: "",
    certifies: Certifies::ForAllInputs,
    speaks_of: Arithmetic::Real,
    clamps: None,
    is_intersection: false,
    rung: None,
    is_monotone: false,
    sees_units: false,
    reads_spectral_norms: false,
    rounds_activations: false,
    parameter: None,
};

/// The same recursion with errors clamped.
const fn clamped(plain: BoundFacts, id: &'static str, title: &'static str) -> BoundFacts {
    BoundFacts {
        id,
        title,
        clamps: Some(plain.id),
        rung: None,
        is_monotone: false,
        ..plain
    }
}

/// Closed form of Gonon et al. 2023.
pub const GONON2023: BoundFacts = BoundFacts {
    id: "gonon2023",
    title: "width, depth and one norm for all layers",
    source: "Gonon, Brisebarre, Gribonval, Riccietti 2023, IEEE Trans. Inf. Theory 69(6); constant derived",
    rung: Some(""),
    is_monotone: true,
    sees_units: true,
    ..THEOREM
};

const HOUACHE: BoundFacts = BoundFacts {
    source: "Houache, Aujol, Traonmilin 2025, arXiv 2502.01156; reading of the mean derived",
    is_monotone: true,
    sees_units: true,
    ..THEOREM
};

/// Closed form of Houache et al. 2025, arithmetic mean.
pub const HOUACHE2025_ARITHMETIC: BoundFacts = BoundFacts {
    id: "houache2025-arithmetic",
    title: "mean layer norm and sum of widths, arithmetic mean",
    ..HOUACHE
};

/// Closed form of Houache et al. 2025, geometric mean.
pub const HOUACHE2025: BoundFacts = BoundFacts {
    id: "houache2025",
    title: "mean layer norm and sum of widths, geometric mean",
    rung: Some("one norm and one width for all layers"),
    ..HOUACHE
};

/// The same with kernel sizes, arithmetic mean.
pub const HOUACHE2025_CONV_ARITHMETIC: BoundFacts = BoundFacts {
    id: "houache2025-conv-arithmetic",
    title: "mean layer norm and sum of kernel sizes, arithmetic mean",
    ..HOUACHE
};

/// The same with kernel sizes, geometric mean.
pub const HOUACHE2025_CONV: BoundFacts = BoundFacts {
    id: "houache2025-conv",
    title: "mean layer norm and sum of kernel sizes, geometric mean",
    rung: Some("whole maps counted for kernels"),
    ..HOUACHE
};

const LAYER_SUMS: BoundFacts = BoundFacts {
    source: "derived (docs/bounds.md, layer-sum), in the proof of houache2025",
    is_monotone: true,
    sees_units: true,
    ..THEOREM
};

/// Sum over layers, with the network's largest change.
pub const LAYER_SUM_EPS: BoundFacts = BoundFacts {
    id: "layer-sum-eps",
    title: "sum over layers, largest change of the network",
    rung: Some("the worst product of norms for every layer"),
    ..LAYER_SUMS
};

/// Sum over layers, with each layer's largest change.
pub const LAYER_SUM_LAYER_EPS: BoundFacts = BoundFacts {
    id: "layer-sum-layer-eps",
    title: "sum over layers, largest change of each layer",
    rung: Some("the network's largest rounding error for every layer"),
    ..LAYER_SUMS
};

/// Sum over layers, with the norms of what changes.
pub const LAYER_SUM: BoundFacts = BoundFacts {
    id: "layer-sum",
    title: "sum over layers, norms of what changes",
    rung: Some("worst-case rounding of every weight"),
    ..LAYER_SUMS
};

/// Recursion over operator norms.
pub const LAYERWISE: BoundFacts = BoundFacts {
    id: "layerwise",
    title: "recursion over operator norms of layers",
    source: "derived (docs/bounds.md, layerwise)",
    rung: Some("magnitudes beyond the activations' range"),
    is_monotone: true,
    sees_units: true,
    ..THEOREM
};

/// Recursion over operator norms, errors clamped.
pub const LAYERWISE_CAP: BoundFacts = clamped(
    LAYERWISE,
    "layerwise+cap",
    "recursion over operator norms, errors clamped to the range of the values",
);

/// Weighted paths.
pub const PATH_METRIC: BoundFacts = BoundFacts {
    id: "path-metric",
    title: "weighted count of the paths in which the networks differ",
    source: "derived; after Gonon, Brisebarre, Riccietti, Gribonval 2025, arXiv 2405.15006",
    is_monotone: true,
    ..THEOREM
};

/// Recursion over channels.
pub const CHANNELWISE: BoundFacts = BoundFacts {
    id: "channelwise",
    title: "recursion over channels",
    source: "derived (docs/bounds.md, channelwise)",
    rung: Some("one number for all channels"),
    is_monotone: true,
    rounds_activations: true,
    ..THEOREM
};

/// Recursion over channels, errors clamped.
pub const CHANNELWISE_CAP: BoundFacts = clamped(
    CHANNELWISE,
    "channelwise+cap",
    "recursion over channels, errors clamped to the range of the values",
);

/// Signed intervals.
pub const INTERVAL: BoundFacts = BoundFacts {
    id: "interval",
    title: "signed intervals for values and differences",
    source: "derived; after Zhang, Song, Sun 2022, arXiv 2212.02781 (differential reachability)",
    rounds_activations: true,
    ..THEOREM
};

/// Signed intervals, differences clamped.
pub const INTERVAL_CAP: BoundFacts = clamped(
    INTERVAL,
    "interval+cap",
    "signed intervals, differences clamped to what the values allow",
);

/// Recursion over channels and linear chains.
pub const FUSED: BoundFacts = BoundFacts {
    id: "fused",
    title: "recursion over channels, linear chains multiplied first",
    source: "derived (docs/bounds.md, fused)",
    rung: Some("linear chains taken layer by layer"),
    ..THEOREM
};

/// Recursion over channels and linear chains, errors clamped.
pub const FUSED_CAP: BoundFacts = clamped(
    FUSED,
    "fused+cap",
    "linear chains multiplied first, errors clamped to the range of the values",
);

/// Recursion over spectral norms.
pub const SPECTRAL: BoundFacts = BoundFacts {
    id: "spectral",
    title: "recursion over certified spectral norms",
    source: "derived (docs/bounds.md, spectral)",
    sees_units: true,
    reads_spectral_norms: true,
    ..THEOREM
};

/// Recursion over spectral norms, errors clamped.
pub const SPECTRAL_CAP: BoundFacts = clamped(
    SPECTRAL,
    "spectral+cap",
    "recursion over spectral norms, errors clamped to the range of the values",
);

/// Spectral norms of linear chains.
pub const SPECTRAL_FUSED: BoundFacts = BoundFacts {
    id: "spectral-fused",
    title: "spectral norms of linear chains, depthwise gains folded in",
    source: "derived (docs/bounds.md, spectral-fused)",
    sees_units: true,
    reads_spectral_norms: true,
    ..THEOREM
};

/// Spectral norms of linear chains, errors clamped.
pub const SPECTRAL_FUSED_CAP: BoundFacts = clamped(
    SPECTRAL_FUSED,
    "spectral-fused+cap",
    "spectral norms of linear chains, errors clamped to the range of the values",
);

/// Spectral norms of linear chains, in units of its own.
pub const SPECTRAL_FUSED_RESCALED: BoundFacts = BoundFacts {
    id: "spectral-fused-rescaled",
    title: "spectral norms of linear chains, channels rescaled to balance rows and columns",
    source: "derived (docs/bounds.md, spectral-fused-rescaled)",
    ..THEOREM
};

/// Spectral norms of chains through activations.
pub const SPECTRAL_AVERAGED: BoundFacts = BoundFacts {
    id: "spectral-averaged",
    title: "spectral norms of chains through activations, of which half is linear",
    source: "derived (docs/bounds.md, spectral-averaged); after Combettes, Pesquet 2020, arXiv 1903.01014",
    ..THEOREM
};

/// The smallest of all unclamped bounds.
pub const BEST: BoundFacts = BoundFacts {
    id: "best",
    title: "the smallest of all unclamped bounds",
    source: "derived (docs/bounds.md, best)",
    is_intersection: true,
    rung: Some("intervals, l2 norms, paths and rescaling not used"),
    sees_units: true,
    rounds_activations: true,
    ..THEOREM
};

/// The smallest of all bounds.
pub const BEST_CAP: BoundFacts = clamped(BEST, "best+cap", "the smallest of all bounds");

/// From the activations of one image.
pub const SAMPLE: BoundFacts = BoundFacts {
    id: "sample",
    title: "from the activations of an image",
    source: "derived (docs/bounds.md, sample)",
    certifies: Certifies::PerSample,
    speaks_of: Arithmetic::Engine,
    rounds_activations: true,
    ..THEOREM
};

/// Around one image.
pub const BALL: BoundFacts = BoundFacts {
    id: "ball",
    title: "for every input within a distance of an image",
    source: "derived (docs/bounds.md, ball)",
    parameter: Some("radius in units of normalized pixels"),
    ..SAMPLE
};

/// Around one image, from the difference that is there.
pub const BALL_CENTRED: BoundFacts = BoundFacts {
    id: "ball-centred",
    title: "for every input within a distance of an image, from the difference at the image",
    source: "derived (docs/bounds.md, ball-centred)",
    parameter: Some("radius in units of normalized pixels"),
    ..SAMPLE
};

/// Before weights are rounded at random.
pub const SAMPLE_STOCHASTIC: BoundFacts = BoundFacts {
    id: "sample-stochastic",
    title: "from the activations of an image, before weights are rounded at random",
    source: "derived (docs/bounds.md, T7)",
    parameter: Some("probability, over the dice, that it fails at any depth"),
    ..SAMPLE
};

/// Every bound.
pub const ALL: &[&BoundFacts] = &[
    &GONON2023,
    &HOUACHE2025_ARITHMETIC,
    &HOUACHE2025,
    &HOUACHE2025_CONV_ARITHMETIC,
    &HOUACHE2025_CONV,
    &LAYER_SUM_EPS,
    &LAYER_SUM_LAYER_EPS,
    &LAYER_SUM,
    &LAYERWISE,
    &LAYERWISE_CAP,
    &PATH_METRIC,
    &CHANNELWISE,
    &CHANNELWISE_CAP,
    &INTERVAL,
    &INTERVAL_CAP,
    &FUSED,
    &FUSED_CAP,
    &SPECTRAL,
    &SPECTRAL_CAP,
    &SPECTRAL_FUSED,
    &SPECTRAL_FUSED_CAP,
    &SPECTRAL_FUSED_RESCALED,
    &SPECTRAL_AVERAGED,
    &BEST,
    &BEST_CAP,
    &SAMPLE,
    &BALL,
    &BALL_CENTRED,
    &SAMPLE_STOCHASTIC,
];

/// What is known of the bound of that id, `name` or `name:parameter`.
pub fn of(id: &str) -> Option<&'static BoundFacts> {
    let (name, parameter) = match id.split_once(':') {
        Some((name, _)) => (name, true),
        None => (id, false),
    };
    let found = ALL.iter().find(|f| f.id == name);
    found
        .copied()
        .filter(|f| f.parameter.is_some() == parameter)
}

/// True for bounds that do not clamp errors to the range of the values; what a table names and nobody here knows is
/// taken for one.
pub fn is_plain(id: &str) -> bool {
    of(id).is_none_or(|f| f.clamps.is_none())
}

/// True for bounds on every input of the domain; what a table names and nobody here knows is taken for one.
pub fn is_for_all_inputs(id: &str) -> bool {
    of(id).is_none_or(|f| f.certifies == Certifies::ForAllInputs)
}

/// The bounds that hold for a whole ball of weights.
pub fn monotone() -> impl Iterator<Item = &'static BoundFacts> {
    ALL.iter().copied().filter(|f| f.is_monotone)
}

/// The bounds on every input that hold too where activations are rounded.
pub fn rounding_activations() -> impl Iterator<Item = &'static BoundFacts> {
    let rounding = |f: &&BoundFacts| f.rounds_activations && f.certifies == Certifies::ForAllInputs;
    ALL.iter().copied().filter(rounding)
}

impl Arithmetic {
    /// Of the bound of that id; real numbers where it is not known.
    pub fn of(id: &str) -> Self {
        of(id).map_or(Self::Real, |f| f.speaks_of)
    }
}

impl BoundFacts {
    /// The parameter in an id of this kind.
    pub fn parameter_of(&self, id: &str) -> Option<f64> {
        let (name, parameter) = id.split_once(':')?;
        (name == self.id).then(|| parameter.parse().ok())?
    }

    /// The id for a parameter, where this kind of bound takes one.
    pub fn with(&self, parameter: f64) -> String {
        format!("{}:{parameter}", self.id)
    }
}
