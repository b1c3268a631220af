//! One look per series through all figures, and what each bound is.

use std::collections::BTreeMap;

use crate::facts;

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    /// `#rrggbb`.
    pub colour: &'static str,
    pub width: f64,
    /// Lengths of dashes and gaps; empty for a solid line.
    pub dash: &'static [f64],
}

const SOLID: &[f64] = &[];
const DOTTED: &[f64] = &[1.5, 3.5];
const LONG_DASHED: &[f64] = &[14.0, 4.0];
const DASHED: &[f64] = &[7.0, 4.0];
const DASH_DOT: &[f64] = &[9.0, 3.0, 1.5, 3.0];
const LONG: &[f64] = &[14.0, 4.0];

/// The largest discrepancy measured.
pub const MEASURED: Stroke = Stroke {
    colour: "#000000",
    width: 2.6,
    dash: SOLID,
};
/// What most images stay under.
pub const TAIL: Stroke = Stroke {
    colour: "#cc3311",
    width: 2.2,
    dash: SOLID,
};
/// The floating-point allowance.
pub const ALLOWANCE: Stroke = Stroke {
    colour: "#7a7a7a",
    width: 1.6,
    dash: &[4.0, 3.0],
};
/// Full precision, where it is a level to compare with.
pub const REFERENCE: Stroke = Stroke {
    colour: "#7a7a7a",
    width: 1.6,
    dash: DASHED,
};

struct Known {
    id: &'static str,
    colour: &'static str,
    dash: &'static [f64],
    text: &'static str,
}

const fn known(
    id: &'static str,
    colour: &'static str,
    dash: &'static [f64],
    text: &'static str,
) -> Known {
    Known {
        id,
        colour,
        dash,
        text,
    }
}

/// The ladder of bounds, loosest first; colours stay apart under the common colour-vision deficiencies, and no two
/// ids share both colour and dashes.
const LADDER: [Known; 23] = [
    known(
        "gonon2023",
        "#882255",
        DASHED,
        "Closed form from the largest layer norm, the width and the largest weight change (Gonon et al. 2023).",
    ),
    known(
        "houache2025-conv-arithmetic",
        "#aa4499",
        LONG,
        "The same with the arithmetic mean of the layer norms.",
    ),
    known(
        "houache2025-conv",
        "#aa4499",
        DASH_DOT,
        "The mean-norm closed form with weight-sharing counts of convolutions (Houache, Aujol, Traonmilin 2025).",
    ),
    known(
        "houache2025-arithmetic",
        "#aa4499",
        SOLID,
        "The mean-norm closed form with the arithmetic mean of the layer norms.",
    ),
    known(
        "houache2025",
        "#aa4499",
        DASHED,
        "Closed form from the mean layer norm and the sizes of the feature maps (Houache, Aujol, Traonmilin 2025).",
    ),
    known(
        "layer-sum-eps",
        "#6699cc",
        DASHED,
        "Sum over layers of what the network's largest rounding error adds in each, amplified by the norms around it.",
    ),
    known(
        "layer-sum-layer-eps",
        "#6699cc",
        DASH_DOT,
        "The same with each layer's own largest rounding error.",
    ),
    known(
        "layer-sum",
        "#6699cc",
        SOLID,
        "Sum over layers of what each one's rounding adds, amplified by the norms of the layers around it.",
    ),
    known(
        "layerwise",
        "#332288",
        SOLID,
        "Recursion over layers with each layer's own operator norm and own weight change.",
    ),
    known(
        "path-metric",
        "#999933",
        SOLID,
        "Path metric: a forward pass with absolute weights, which no rescaling between layers can change.",
    ),
    known(
        "channelwise",
        "#0077bb",
        SOLID,
        "The layerwise recursion with one error per channel instead of one per layer.",
    ),
    known(
        "interval",
        "#44aa99",
        DASH_DOT,
        "The channelwise recursion with signed intervals for activations and their difference.",
    ),
    known(
        "fused",
        "#117733",
        SOLID,
        "The channelwise recursion with linear layers composed where no activation stands between them.",
    ),
    known(
        "spectral-averaged",
        "#ee7733",
        LONG_DASHED,
        "The same through activations: half of an activation's output is its input, so that layers compose across it.",
    ),
    known(
        "spectral-fused-rescaled",
        "#ee7733",
        DASH_DOT,
        "The same in units that level the norms of rows and columns, which changes neither function nor discrepancy.",
    ),
    known(
        "spectral-fused",
        "#ee7733",
        DASHED,
        "The spectral recursion with linear layers composed where no activation stands between them.",
    ),
    known(
        "spectral",
        "#ee7733",
        SOLID,
        "The layerwise recursion in the l2 norm, with certified spectral norms.",
    ),
    known(
        "best",
        "#f4bfa8",
        SOLID,
        "The smallest of all sound bounds at every layer.",
    ),
    known(
        "sample",
        "#661100",
        DASH_DOT,
        "Per sample: the exact local error of each layer on that image, propagated with absolute weights.",
    ),
    known(
        "ball",
        "#661100",
        DASHED,
        "Per sample, around a ball of inputs.",
    ),
    known(
        "ball-centred",
        "#225555",
        LONG_DASHED,
        "Per sample: the difference at the image, and how far it can move within a ball of inputs.",
    ),
    known(
        "sample-stochastic",
        "#aa4466",
        LONG,
        "Per sample, before weights are rounded at random: false with at most the probability named.",
    ),
    known(
        "measured",
        "#000000",
        SOLID,
        "The largest measured discrepancy over the images.",
    ),
];

const SPARE_COLOURS: [&str; 5] = ["#ddaa33", "#cc6677", "#997700", "#555555", "#88ccaa"];
/// Dashes of variants of a known bound, after those of the bound itself.
const VARIANTS: [&[f64]; 4] = [SOLID, DASHED, DASH_DOT, LONG];

/// The look of the bound that a clamped one clamps, of its kind where the id has a parameter, else its own.
fn ladder(id: &str) -> Option<&'static Known> {
    let facts = facts::of(id);
    let base = facts.map_or(id, |f| f.clamps.unwrap_or(f.id));
    LADDER.iter().find(|k| k.id == base)
}

/// True where no other id shares the look: not one of several parameters.
fn has_own_look(id: &str) -> bool {
    ladder(id).is_some_and(|k| k.id == id) || !facts::is_plain(id)
}

/// What a bound is, in a sentence.
pub fn describe(id: &str) -> String {
    let mut text = ladder(id).map_or("No description.", |k| k.text).to_string();
    if !facts::is_plain(id) {
        text.push_str(
            " Clamped to the activations' range, which alone says nothing about weights.",
        );
    }
    text
}

/// Is the line a wide one to be drawn beneath the others, because it runs along one of them?
pub fn lies_beneath(id: &str) -> bool {
    facts::of(id).is_some_and(|f| f.is_intersection && f.clamps.is_none())
}

/// The look of every bound of a run.
pub struct Styles {
    strokes: BTreeMap<String, Stroke>,
}

impl Styles {
    pub fn new(ids: Vec<String>) -> Self {
        let mut strokes: BTreeMap<String, Stroke> = BTreeMap::new();
        let mut spare = 0;
        for id in ids.iter().filter(|id| has_own_look(id)) {
            if let Some(k) = ladder(id) {
                strokes.insert(id.clone(), stroke(id, k.colour, k.dash));
            }
        }
        for id in ids {
            if strokes.contains_key(&id) {
                continue;
            }
            let colour = match ladder(&id) {
                Some(k) => k.colour,
                None => {
                    spare += 1;
                    SPARE_COLOURS[(spare - 1) % SPARE_COLOURS.len()]
                }
            };
            let free = VARIANTS.iter().find(|dash| {
                let wanted = stroke(&id, colour, dash);
                !strokes.values().any(|taken| *taken == wanted)
            });
            strokes.insert(id.clone(), stroke(&id, colour, free.unwrap_or(&LONG)));
        }
        Self { strokes }
    }

    /// The look of bound `id`.
    pub fn stroke(&self, id: &str) -> Stroke {
        let known = || ladder(id).map_or((SPARE_COLOURS[0], SOLID), |k| (k.colour, k.dash));
        self.strokes.get(id).copied().unwrap_or_else(|| {
            let (colour, dash) = known();
            stroke(id, colour, dash)
        })
    }
}

fn stroke(id: &str, colour: &'static str, dash: &'static [f64]) -> Stroke {
    let facts = facts::of(id);
    let is_intersection = facts.is_some_and(|f| f.is_intersection);
    let clamps = !facts::is_plain(id);
    Stroke {
        colour: if is_intersection && clamps {
            "#cc3311"
        } else {
            colour
        },
        width: if is_intersection && !clamps { 7.0 } else { 1.8 },
        dash: if clamps { DOTTED } else { dash },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_bounds_look_alike() {
        let mut ids: Vec<String> = LADDER[..18].iter().map(|k| k.id.to_string()).collect();
        ids.extend(["ball:0.01", "ball:0.1", "mine", "other"].map(String::from));
        ids.extend(["ball-centred:0.01", "ball-centred:0.1"].map(String::from));
        ids.extend(["layerwise+cap", "best+cap", "fused+cap"].map(String::from));
        let styles = Styles::new(ids.clone());
        for (i, a) in ids.iter().enumerate() {
            for b in &ids[..i] {
                assert_ne!(styles.stroke(a), styles.stroke(b), "{a} and {b} look alike");
            }
        }
        assert_eq!(
            styles.stroke("fused").colour,
            styles.stroke("fused+cap").colour
        );
        assert!(describe("layerwise+cap").contains("Clamped"));
    }
}
