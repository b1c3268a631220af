//! Why an image is not decoded.

/// Why an image is not decoded.
#[derive(Debug)]
pub enum Fault {
    /// The file is no image, or a damaged one.
    Damaged(String),
    /// Decoding would take more memory than may be used.
    Memory(String),
}

impl From<String> for Fault {
    fn from(problem: String) -> Self {
        Self::Damaged(problem)
    }
}

impl From<&str> for Fault {
    fn from(problem: &str) -> Self {
        Self::Damaged(problem.into())
    }
}
