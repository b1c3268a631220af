//! What a plan asks of a sweep beside discrepancies and bounds.

use serde::{Deserialize, Serialize};

use super::tails::Tails;

/// `[studies]` of a plan; a study runs where its key is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Studies {
    /// Bounds from the activations of each image.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sample: bool,
    /// The same for every image within these distances.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ball: Vec<f64>,
    /// Around the discrepancy at each image, for every image within these distances.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ball_centred: Vec<f64>,
    /// Bounds from the activations of each image before weights are rounded at random, which fail with this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stochastic: Option<f64>,
    /// Whether what the quantizers' papers promise is checked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub guarantees: bool,
    /// The worst input that a search finds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// Each layer quantized alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// Where the error is made, on so many images; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub attribution: usize,
    /// Bounds by parametrization, as given and rescaled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rescale: bool,
    /// Distributions of weights and activations, layer by layer and channel by channel.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dynamics: bool,
    /// Statements for most images: see [`Tails`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tails: Option<Tails>,
}

impl Studies {
    /// Keys of the table.
    pub const KEYS: &[&str] = &[
        "sample",
        "ball",
        "ball_centred",
        "stochastic",
        "isolated",
        "attribution",
        "search",
        "dynamics",
        "guarantees",
        "rescale",
        "tails",
    ];

    /// Says what is wrong with the settings.
    pub fn check(&self) -> Result<(), String> {
        check_ball("ball", &self.ball)?;
        check_ball("ball_centred", &self.ball_centred)?;
        self.tails.map_or(Ok(()), |t| t.check())?;
        if let Some(p) = self.stochastic.filter(|p| !(*p > 0.0 && *p < 1.0)) {
            return Err(format!(
                "stochastic = {p}: the probability that a bound fails is above 0 and below 1"
            ));
        }
        if self.search.is_some_and(|s| s.budget == 0) {
            return Err("search.budget = 0: a search evaluates at least one input".into());
        }
        Ok(())
    }

    /// For leaving the table out of a stored plan.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Says which radius is none.
fn check_ball(key: &str, ball: &[f64]) -> Result<(), String> {
    match ball.iter().find(|r| !(r.is_finite() && **r > 0.0)) {
        None => Ok(()),
        Some(r) => Err(format!(
            "{key} = [{r}]: a radius is a finite number above 0, in units of normalized pixels"
        )),
    }
}

/// `search = { budget = 200, seed = 0, method = "both" }`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    /// Inputs that each method evaluates.
    pub budget: usize,
    /// Of all random choices.
    pub seed: u32,
    /// Which methods.
    pub method: Methods,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            budget: 200,
            seed: 0,
            method: Methods::Both,
        }
    }
}

/// One method, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Methods {
    /// Projected gradient ascent.
    Gradient,
    /// Square attack, without gradients; `free` in older plans.
    #[serde(alias = "free")]
    Square,
    /// One after the other.
    Both,
}
