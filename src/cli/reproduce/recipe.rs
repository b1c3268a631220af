//! The figures and tables of papers as data: `experiments/papers/PAPER/paper.toml` with a plan beside it for each sweep.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;

use crate::experiment::plan::{Images, Model};
use crate::quant::Granularity;

/// A paper and what of it can be made again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Authors, title and number.
    pub title: String,
    /// What its values were copied from, or that none were seen.
    pub source: String,
    /// Figures and tables.
    pub entry: Vec<Entry>,
}

/// One figure or table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name on the command line.
    pub id: String,
    /// What it shows.
    pub what: String,
    /// Minutes on one core, roughly; `docs/results.md` has those that were measured.
    pub minutes: f64,
    /// GB of memory, roughly.
    pub memory: f64,
    /// What is smaller here than in the paper; empty where nothing is.
    pub reduced: String,
    /// Why the numbers differ, or what they would have to be compared with.
    pub differs: String,
    /// How our numbers are made and read off.
    pub reading: Reading,
    /// What the paper reports, as far as it was seen.
    #[serde(default)]
    pub published: Vec<Published>,
}

/// Where our numbers come from. Those with a `plan` are read off the run of `experiments/papers/PAPER/<plan>`.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reading {
    /// At the output, in log10: the measurement and bounds.
    Ladder { plan: String, bounds: Vec<String> },
    /// The same in the network's own units, equalized, and in the best units found: needs the study `rescale`.
    Rescaled { plan: String, bounds: Vec<String> },
    /// Images that are right, and that keep their class.
    Classes { plan: String },
    /// Promises of quantizers, counted.
    Guarantees { plan: String },
    /// Distributions by kind of layer, medians over layers.
    Dynamics { plan: String },
    /// Bits that keep a quantity at the output under the plan's tolerances.
    Bits {
        plan: String,
        quantities: Vec<String>,
    },
    /// Path norms of weights.
    PathNorms { model: Vec<Model>, powers: Vec<u32> },
    /// The first layer alone, its weights rounded at random.
    OneLayer {
        model: Vec<Model>,
        images: Images,
        bits: u32,
        granularity: Granularity,
        draws: u32,
    },
    /// Enclosures of the difference in fixed point, over boxes around images.
    Enclosure {
        model: Vec<Model>,
        images: Images,
        radius: f64,
        bits: Vec<i32>,
        samples: usize,
    },
}

/// Numbers of the paper.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Which row: the names of our table's first columns.
    pub at: BTreeMap<String, toml::Value>,
    /// By the names of our table's other columns.
    pub values: BTreeMap<String, f64>,
    /// Where they were seen.
    pub source: String,
    /// A: in the authors' data, code or text. B: quoted by others.
    pub sure: Sure,
}

/// How sure a published number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Sure {
    A,
    B,
}

impl Reading {
    /// The plan that a sweep runs first.
    pub fn plan(&self) -> Option<&str> {
        match self {
            Self::Ladder { plan, .. }
            | Self::Rescaled { plan, .. }
            | Self::Classes { plan }
            | Self::Guarantees { plan }
            | Self::Dynamics { plan }
            | Self::Bits { plan, .. } => Some(plan),
            Self::PathNorms { .. } | Self::OneLayer { .. } | Self::Enclosure { .. } => None,
        }
    }
}

impl Published {
    /// Is it the row of these names? A quantizer may go on after what is asked for.
    pub fn is_at(&self, names: &[(String, String)]) -> bool {
        self.at.iter().all(|(key, wanted)| {
            let found = names.iter().find(|(name, _)| name == key);
            found.is_some_and(|(_, text)| match plain(wanted) {
                wanted if key == "quantizer" => text.starts_with(&wanted),
                wanted => *text == wanted,
            })
        })
    }
}

/// A value as it stands in a table.
pub fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

macro_rules! papers {
    ($($paper:literal: $($plan:literal)*;)*) => {
        /// Every file, as it is below `experiments/papers`.
        const FILES: &[(&str, &str)] = &[
            $(
                (concat!($paper, "/paper.toml"), include_str!(concat!("../../../experiments/papers/", $paper, "/paper.toml"))),
                $((concat!($paper, "/", $plan), include_str!(concat!("../../../experiments/papers/", $paper, "/", $plan))),)*
            )*
        ];
        /// Names of the papers, in the order of the list.
        pub const PAPERS: &[&str] = &[$($paper),*];
    };
}

papers! {
    "gonon2023": "depth.toml";
    "houache2025": "mobilenet.toml" "resnets.toml";
    "path-norm2024": "metric.toml";
    "gpfq": "classes.toml" "decay.toml";
    "spfq": "bounds.toml";
    "rex": "orders.toml";
    "dfq": "classes.toml";
    "adaround": "classes.toml";
    "yun2021": "dynamics.toml";
    "qebverif": ;
    "houache2026": "mixed.toml";
}

/// The text of a file below `experiments/papers`.
pub fn text(paper: &str, file: &str) -> anyhow::Result<&'static str> {
    let path = format!("{paper}/{file}");
    let found = FILES.iter().find(|(name, _)| *name == path);
    Ok(found
        .with_context(|| format!("experiments/papers/{path} is not in this program"))?
        .1)
}

impl Paper {
    /// A paper by its name.
    pub fn find(name: &str) -> anyhow::Result<Self> {
        if !PAPERS.contains(&name) {
            let near = crate::suggest(name, PAPERS.iter().copied());
            let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
            anyhow::bail!(
                "no paper is called {name}{hint} known: {}",
                PAPERS.join(", ")
            );
        }
        let file = "paper.toml";
        toml::from_str(text(name, file)?)
            .with_context(|| format!("experiments/papers/{name}/{file}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::plan::Plan;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_file_of_the_folder_is_in_the_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/papers");
        let mut found = BTreeSet::new();
        for paper in std::fs::read_dir(&root).unwrap() {
            let paper = paper.unwrap().path();
            for file in std::fs::read_dir(&paper).unwrap() {
                let file = file.unwrap().path();
                found.insert(file.strip_prefix(&root).unwrap().display().to_string());
            }
        }
        let known: BTreeSet<String> = FILES.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(found, known);
    }

    #[test]
    fn recipes_and_their_plans_can_be_read_and_say_what_they_take() {
        for name in PAPERS {
            let paper = Paper::find(name).unwrap();
            let mut used = BTreeSet::new();
            for entry in &paper.entry {
                let at = format!("{name} {}", entry.id);
                assert!(entry.minutes > 0.0 && entry.memory > 0.0, "{at}");
                assert!(!entry.differs.is_empty(), "{at}");
                if let Some(plan) = entry.reading.plan() {
                    used.insert(format!("{name}/{plan}"));
                    let plan = text(name, plan).unwrap();
                    Plan::from_words(plan, Path::new(&at)).unwrap();
                }
                for published in &entry.published {
                    assert!(!published.values.is_empty(), "{at}");
                    assert!(published.source.len() > 10, "{at}");
                }
            }
            let plans = FILES.iter().map(|(f, _)| f.to_string());
            let plans =
                plans.filter(|f| f.starts_with(&format!("{name}/")) && !f.ends_with("/paper.toml"));
            assert_eq!(plans.collect::<BTreeSet<_>>(), used, "{name}");
        }
    }

    #[test]
    fn published_rows_are_found_by_name() {
        let published: Published = toml::from_str(
            "at = { model = \"a\", bits = 4, quantizer = \"gpfq\" }\nvalues = { x = 1.5 }\nsource = \"here\"\nsure = \"B\"",
        )
        .unwrap();
        let names = |model: &str, bits: &str| {
            let pairs = [("model", model), ("bits", bits), ("quantizer", "gpfq-c1.1")];
            pairs.map(|(a, b)| (a.to_string(), b.to_string()))
        };
        assert!(published.is_at(&names("a", "4")));
        assert!(!published.is_at(&names("a random:1", "4")));
        assert!(!published.is_at(&names("a", "5")));
        assert_eq!(published.sure, Sure::B);
    }

    #[test]
    fn papers_that_are_not_known_are_named() {
        let error = Paper::find("gpqf").unwrap_err().to_string();
        assert!(error.contains("did you mean gpfq?"), "{error}");
    }
}
