//! What a sweep leaves on disk and what is read back: rows and their tables, the run directory, where results come
//! from, and what makes a bound hold. Whoever measures writes it and whoever draws reads it; neither sees the other.

pub mod answers;
pub mod compare;
pub mod headline;
pub mod history;
pub mod layer_ranking;
pub mod promises;
pub mod provenance;
pub mod schema;
pub mod status;
pub mod store;
pub mod verdict;

/// `1 bound`, `2 bounds`: a count with its noun.
pub fn counted(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}
