//! quantbound measures how far a weight-quantized CNN drifts from its full-precision self, layer by layer,
//! and puts that beside what quantization theory guarantees.
//!
//! The map of the house, strictly downward:
//! [`tensor`] <- [`network`] <- [`quant`] <- [`bounds`]; [`engine`] and [`data`] beside them;
//! [`facts`], what each bound is, below all who speak of bounds; [`hub`] (downloads) on [`data`]; [`results`], what is on disk, between [`experiment`], which makes it, and
//! [`report`], which draws it; [`cli`] on top.

pub mod bounds;
pub mod cli;
pub mod data;
pub mod engine;
pub mod experiment;
pub mod facts;
pub mod hub;
pub mod network;
pub mod quant;
pub mod report;
pub mod results;
pub mod tensor;

/// The entry of `known` nearest to a mistyped `word`, if one is near.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(word, k), k))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}
