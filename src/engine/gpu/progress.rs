//! How far submitted work has come, how long it may take, and which layers it is at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Multiply-accumulates per second that are taken for no progress: of software adapters, and of GPUs.
const SLOWEST: [u64; 2] = [20_000_000, 2_000_000_000];
/// Seconds that any submission may take: kernels are compiled in it, and other processes share the device.
const LEAST: u64 = 120;

/// One submission.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// Names of its first and last node.
    pub nodes: Option<(String, String)>,
    /// Launches.
    pub launches: usize,
    /// Multiply-accumulates.
    pub macs: u64,
}

impl Span {
    /// Adds a launch for a node.
    pub fn add(&mut self, node: Option<&str>) {
        self.launches += 1;
        if let Some(name) = node {
            let first = self.nodes.take().map_or_else(|| name.into(), |n| n.0);
            self.nodes = Some((first, name.into()));
        }
    }
}

/// Submissions of one recording.
#[derive(Clone, Debug, Default)]
pub struct Submitted {
    /// Images that they are of; 0 for work on none.
    pub images: usize,
    /// In order.
    pub spans: Vec<Span>,
    /// How many are finished.
    pub done: Arc<AtomicUsize>,
}

impl Submitted {
    /// How many are finished.
    pub fn finished(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// How long the submission in flight may take.
    pub fn patience(&self, software: bool) -> Duration {
        let macs = self.spans.get(self.finished()).map_or(0, |s| s.macs);
        Duration::from_secs(LEAST + macs / SLOWEST[usize::from(!software)])
    }

    /// What is in flight, in words.
    pub fn at(&self) -> String {
        let Some(span) = self.spans.get(self.finished()) else {
            return "in reading results back".into();
        };
        let layers = match &span.nodes {
            None => String::new(),
            Some((first, last)) if first == last => format!(" of layer {first}"),
            Some((first, last)) => format!(" of layers {first} to {last}"),
        };
        let images = match self.images {
            0 => String::new(),
            n => format!(", {n} images at once"),
        };
        format!(
            "in one of {} launches{layers}{images} (submission {} of {})",
            span.launches,
            self.finished() + 1,
            self.spans.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_named_by_its_layers() {
        let mut spans = vec![Span::default(), Span::default()];
        for name in ["stem", "stem", "block.1"] {
            spans[0].add(Some(name));
        }
        spans[1].add(Some("head"));
        spans[1].macs = 40_000_000_000;
        let work = Submitted {
            images: 8,
            spans,
            done: Arc::default(),
        };
        assert_eq!(
            work.at(),
            "in one of 3 launches of layers stem to block.1, 8 images at once (submission 1 of 2)"
        );
        assert_eq!(work.patience(true), Duration::from_secs(LEAST));
        work.done.store(1, Ordering::Relaxed);
        assert_eq!(
            work.at(),
            "in one of 1 launches of layer head, 8 images at once (submission 2 of 2)"
        );
        assert_eq!(work.patience(true), Duration::from_secs(LEAST + 2000));
        assert_eq!(work.patience(false), Duration::from_secs(LEAST + 20));
        work.done.store(2, Ordering::Relaxed);
        assert_eq!(work.at(), "in reading results back");
    }
}
