//! Bits that theorems ask for, kept with the run: to find them takes longer than all that is read off its tables, and a
//! sweep that has nothing else to do should end soon.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bounds::BoundError;
use crate::bounds::a_priori::{BitsNeeded, a_priori};
use crate::experiment::code;
use crate::experiment::subject::model::LoadedModel;
use crate::quant::Granularity;
use crate::quant::uniform::Scheme;
use crate::results::schema::file;
use crate::results::store::{RunStore, StoreError, read_json};

/// Of one family of grids, by bound.
type Needed = BTreeMap<String, BitsNeeded>;

/// What is known of earlier sweeps, and what this one asked for.
#[derive(Default)]
pub struct Theorems {
    known: BTreeMap<String, Needed>,
    asked: BTreeMap<String, Needed>,
}

/// `theorems.json`.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// BLAKE3 of the rest as JSON.
    blake3: String,
    /// By what they follow from.
    needed: BTreeMap<String, Needed>,
}

impl Stored {
    fn of(needed: BTreeMap<String, Needed>) -> Option<Self> {
        let bytes = serde_json::to_vec(&needed).ok()?;
        let blake3 = blake3::hash(&bytes).to_string();
        Some(Self { blake3, needed })
    }
}

impl Theorems {
    /// Those of an earlier sweep of the directory; none where there was none, or its file is damaged.
    pub fn open(store: &RunStore) -> Self {
        let stored: Option<Stored> = read_json(&store.dir().join(file::THEOREMS)).ok();
        let same = |s: Stored| Stored::of(s.needed).filter(|again| again.blake3 == s.blake3);
        let intact = stored.and_then(same);
        Self {
            known: intact.map_or_else(BTreeMap::new, |s| s.needed),
            asked: BTreeMap::new(),
        }
    }

    /// [`a_priori`] of a model, by bound.
    ///
    /// # Errors
    /// Those of [`a_priori`].
    pub fn of(
        &mut self,
        model: &LoadedModel,
        scheme: Scheme,
        granularity: Granularity,
        ids: &[&str],
        tolerances: &[f64],
    ) -> Result<Needed, BoundError> {
        let domain = model.domain();
        let follows_from = format!(
            "{} {} {} {domain:?} {scheme:?} {} {ids:?} {tolerances:?}",
            code::MEASURE,
            code::BOUNDS,
            model.content,
            granularity.name()
        );
        let key = blake3::hash(follows_from.as_bytes()).to_hex()[..16].to_string();
        let known = self.asked.get(&key).or(self.known.get(&key));
        let needed = match known {
            Some(needed) => needed.clone(),
            None => {
                let network = &model.network;
                let found = a_priori(network, &domain, scheme, granularity, ids, tolerances)?;
                let named = found.into_iter().map(|(id, bits)| (id.to_string(), bits));
                named.collect()
            }
        };
        self.asked.insert(key, needed.clone());
        Ok(needed)
    }

    /// Stores what was asked for, where that is not what is stored.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn close(self, store: &RunStore) -> Result<(), StoreError> {
        if self.asked == self.known {
            return Ok(());
        }
        match Stored::of(self.asked) {
            Some(stored) => store.write_json(file::THEOREMS, &stored),
            None => Ok(()),
        }
    }
}
