//! How much memory the program may use: one budget, asked before anything large is allocated.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes; zero until it is set or first asked for.
static BUDGET: AtomicUsize = AtomicUsize::new(0);

/// Where the machine does not say what it has.
const UNKNOWN: usize = 4 << 30;

/// Files up to this length are read whatever they hold.
const SMALL: u64 = 64 << 20;
/// A longer one is read where at least one page in so many holds anything.
const SPARSE: u64 = 16;
/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes that are read of a file at a time.
const PART: u64 = 1 << 20;

/// Sets the budget in bytes.
pub fn set_budget(bytes: usize) {
    BUDGET.store(bytes.max(1), Ordering::Relaxed);
}

/// The budget in bytes: as set, else what the machine had free when first asked.
pub fn budget() -> usize {
    let known = BUDGET.load(Ordering::Relaxed);
    if known > 0 {
        return known;
    }
    let own = available().unwrap_or(UNKNOWN);
    BUDGET.store(own, Ordering::Relaxed);
    own
}

/// An error that says what would be needed where `bytes` for `what` are more than the budget.
pub fn check(what: &str, bytes: usize) -> Result<(), String> {
    let most = budget();
    if bytes <= most {
        return Ok(());
    }
    Err(format!(
        "{what} would take {} of memory, more than the {} that may be used; with more free, raise --memory",
        amount(bytes),
        amount(most)
    ))
}

/// The bytes of a file or pipe of which `copies` will be held; an error where that is more than the budget, before they are
/// read where the length is known. A folder is no file, and a device may never end.
pub fn read_file(path: &Path, what: &str, copies: usize) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::other("a folder, where a file is expected"));
    }
    if is_device(&metadata) {
        return Err(io::Error::other("a device, where a file is expected"));
    }
    let too_long = |length: u64| {
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        check(what, bytes.saturating_mul(copies)).map_err(io::Error::other)
    };
    too_long(metadata.len())?;
    let mut file = File::open(path)?;
    let (mut watch, mut bytes) = (Watch::of(&metadata), Vec::new());
    bytes.reserve_exact(usize::try_from(metadata.len()).unwrap_or_default());
    loop {
        let before = bytes.len();
        file.by_ref().take(PART).read_to_end(&mut bytes)?;
        watch.see(&bytes[before..])?;
        too_long(bytes.len() as u64)?;
        if bytes.len() == before {
            return Ok(bytes);
        }
    }
}

/// Watches what is read of a long file that takes little of the disk: hardly more than holes, as an unfinished download and a
/// forged file are, its bytes take no room there, and their whole number in memory.
///
/// File systems tell what a file takes of the disk, but not all do: what counts is what reading finds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// Length of a file that does not take it of the disk; 0 for any other.
    length: u64,
    read: u64,
    /// In pages that hold something.
    holding: u64,
}

impl Watch {
    /// Over the reading of a file.
    pub fn of(metadata: &Metadata) -> Self {
        let length = metadata.len();
        let whole = length <= SMALL || on_disk(metadata).saturating_mul(SPARSE) >= length;
        Self {
            length: if whole { 0 } else { length },
            ..Self::default()
        }
    }

    /// An error once the parts that were read are hardly more than holes.
    pub fn see(&mut self, part: &[u8]) -> io::Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        self.read += part.len() as u64;
        let pages = part.chunks(PAGE);
        let holding = pages.filter(|page| **page != [0; PAGE][..page.len()]);
        self.holding += holding.map(|page| page.len() as u64).sum::<u64>();
        if self.read <= SMALL || self.holding.saturating_mul(SPARSE) >= self.read {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "hardly more than holes: of its {}, {} were read, of which {} hold anything; an unfinished download? fetch it again",
            amount(self.length as usize),
            amount(self.read as usize),
            amount(self.holding as usize)
        )))
    }
}

/// Bytes of the disk that a file takes, its length where the system does not tell.
#[cfg(unix)]
fn on_disk(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata).saturating_mul(512)
}

#[cfg(not(unix))]
fn on_disk(metadata: &Metadata) -> u64 {
    metadata.len()
}

#[cfg(unix)]
fn is_device(metadata: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    kind.is_char_device() || kind.is_block_device()
}

#[cfg(not(unix))]
fn is_device(_: &Metadata) -> bool {
    false
}

/// `12.3 GiB` and the like.
pub fn amount(bytes: usize) -> String {
    let bytes = bytes as f64;
    let (unit, name) = match bytes {
        b if b >= 1e3 * 2f64.powi(30) => (2f64.powi(40), "TiB"),
        b if b >= 2f64.powi(30) => (2f64.powi(30), "GiB"),
        _ => (2f64.powi(20), "MiB"),
    };
    format!("{:.1} {name}", bytes / unit)
}

/// Reads `8G`, `500M`, `1.5GiB` or bytes.
pub fn parse(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?}: expected an amount of memory, as in 8G or 500M");
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 1.0,
        "K" | "k" => 2f64.powi(10),
        "M" | "m" => 2f64.powi(20),
        "G" | "g" => 2f64.powi(30),
        "T" | "t" => 2f64.powi(40),
        _ => return Err(wrong()),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let bytes = number * scale;
    if !(bytes >= 2f64.powi(20) && bytes < 2f64.powi(60)) {
        return Err(format!("{text:?}: expected at least 1M"));
    }
    Ok(bytes as usize)
}

/// What the machine has free, or a control group leaves to us.
fn available() -> Option<usize> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    let machine = kib.saturating_mul(1024);
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|g| g.trim().parse::<usize>().ok());
    Some(group.map_or(machine, |g| g.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written() {
        assert_eq!(parse("8G").unwrap(), 8 << 30);
        assert_eq!(parse("500M").unwrap(), 500 << 20);
        assert_eq!(parse("1.5GiB").unwrap(), 3 << 29);
        for wrong in ["", "G", "8X", "-1G", "nanG", "1e99T", "5"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(amount(3 << 29), "1.5 GiB");
        assert!(budget() > 0);
    }
}
