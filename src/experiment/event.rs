//! What a sweep tells while it runs.

/// One thing to tell.
#[derive(Clone, Debug)]
pub enum Event {
    /// How much there is to do, in parts, and how much was found done.
    Planned {
        /// Cells of the plan.
        cells: usize,
        /// Parts of all cells.
        parts: usize,
        /// Parts already stored.
        done: usize,
    },
    /// Something to know.
    Note(String),
    /// What is being worked on.
    Now(String),
    /// One more part is stored.
    PartDone,
}
