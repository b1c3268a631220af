//! Damaged inputs for every reader: `fuzz_readers [COUNT] [FIRST_SEED]`, a million by default. Input `n` follows from `n`
//! alone: small files of the repository, cut, overwritten, spliced and repeated. Exit code 1 for a panic, or for an input
//! that makes a reader allocate more than 300 MB; a line per reader says how many were read and refused.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quantbound::data::{CIFAR, Settings};
use quantbound::experiment::plan::Plan;
use quantbound::network::checkpoint::{pytorch, safetensors};
use quantbound::network::{Network, onnx, synthetic, zoo};
use quantbound::quant::saved;

/// Files up to this size are seeds: small ones have as many kinds of parts, and run faster.
const LARGEST_SEED: usize = 16 << 10;
/// Bytes that a reader may hold at one time.
const MOST: usize = 300 << 20;

/// Counts what is allocated.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, with counters beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// A few edits of a seed.
fn damaged(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let len = random.below(33).min(bytes.len() - at);
        match random.below(9) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 => {
                let wide = [0, 1, 0x7f, 0xff, 0x80, 0xfe][random.below(6)];
                bytes[at..at + len].fill(wide);
            }
            3 => {
                let number = random.next() >> random.below(64);
                let (number, len) = (number.to_le_bytes(), len.min(8));
                bytes[at..at + len].copy_from_slice(&number[..len]);
            }
            4 => {
                bytes.drain(at..at + len);
            }
            5 => {
                let part = bytes[at..at + len].to_vec();
                let times = 1 + random.below(64);
                bytes.splice(at..at, part.repeat(times));
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let end = (from + random.below(256)).min(other.len());
                bytes.splice(at..at + len, other[from..end].iter().copied());
            }
            7 => {
                let part = (0..len).map(|_| random.next() as u8);
                let part: Vec<u8> = part.collect();
                bytes.splice(at..at + len, part);
            }
            _ => bytes[at..at + len].iter_mut().for_each(|b| {
                // A digit for a digit keeps texts and headers whole.
                if b.is_ascii_digit() {
                    *b = b'0' + random.below(10) as u8;
                }
            }),
        }
    }
    bytes
}

/// Reads bytes; true when they are taken.
type Reader = Box<dyn Fn(&[u8]) -> bool>;

/// A reader's name, files to start from, and the reader.
type Seeded = (&'static str, Vec<Vec<u8>>, Reader);

/// The small files of a folder whose names end so.
fn seeds(folder: &str, endings: &[&str]) -> anyhow::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let ending = path.extension().and_then(|e| e.to_str());
            ending.is_some_and(|e| endings.contains(&e))
        })
        .collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let bytes = std::fs::read(&path)?;
        if bytes.len() <= LARGEST_SEED {
            files.push(bytes);
        }
    }
    anyhow::ensure!(!files.is_empty(), "no seeds in {}", folder.display());
    Ok(files)
}

/// A network of one layer and a file of it, quantized.
fn saved_network(file: &Path) -> anyhow::Result<Network> {
    use quantbound::quant::uniform::{Scheme, Uniform};
    use quantbound::quant::{Granularity, Quantizer, Range, Rounding};
    let blueprint = zoo::Model::find("cifar_resnet20")?.standard();
    let mut network = synthetic::random_network(&blueprint, 1)?.network;
    network.nodes.truncate(1);
    let uniform = Uniform {
        bits: 5,
        scheme: Scheme::Symmetric,
        granularity: Granularity::PerTensor,
        range: Range::MaxAbs,
        rounding: Rounding::TiesEven,
    };
    let quantized = uniform.quantize(&network)?;
    let origin = saved::Origin {
        network: network.content(),
        quantizer: uniform.name(),
        spec: serde_json::json!({}),
        calibration: None,
    };
    saved::write(file, &network, &quantized, origin, true)?;
    Ok(network)
}

/// Every reader with its seeds; those that read paths get a file of `folder`.
fn readers(folder: &Path) -> anyhow::Result<Vec<Seeded>> {
    let through = |name: &'static str, read: Box<dyn Fn(&Path) -> bool>| -> Reader {
        let path = folder.join(name);
        Box::new(move |bytes| std::fs::write(&path, bytes).is_ok() && read(&path))
    };
    let stored = folder.join("saved.safetensors");
    let network = saved_network(&stored)?;
    let stored = vec![std::fs::read(&stored)?];
    let plan =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/guarantees.toml"))?;
    let settings: Vec<Vec<u8>> = [
        r#"{"input_size": [3, 32, 32], "crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.5], "std": [0.25]}"#,
        r#"{"resize_size": [256], "crop_size": [224], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}"#,
        r#"{"resize": 40, "crop": [32, 24], "input_range": [0, 255], "channels": "bgr"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    let parts = stored.clone();
    Ok(vec![
        (
            "onnx",
            seeds("tests/fixtures/onnx", &["onnx"])?,
            Box::new(|bytes| onnx::import(bytes, None, None).is_ok()),
        ),
        (
            "pytorch",
            seeds("tests/goldens/checkpoints", &["pt", "pth", "tar"])?,
            Box::new(|bytes| pytorch::parse(bytes).is_ok()),
        ),
        (
            "safetensors",
            parts,
            Box::new(|bytes| safetensors::parse(bytes).is_ok()),
        ),
        (
            "saved networks",
            stored,
            through(
                "network",
                Box::new(move |p| saved::read(p, &network).is_ok()),
            ),
        ),
        (
            "images",
            seeds("tests/goldens/images", &["jpg", "png"])?,
            through("image", Box::new(|p| CIFAR.load(p).is_ok())),
        ),
        (
            "preprocessing",
            settings,
            through(
                "settings",
                Box::new(|p| {
                    let file = Some(p.to_path_buf());
                    let settings = Settings {
                        file,
                        ..Settings::default()
                    };
                    settings.resolved().is_ok()
                }),
            ),
        ),
        (
            "plans",
            vec![plan],
            Box::new(|bytes| {
                let text = String::from_utf8_lossy(bytes);
                Plan::parse(&text, Path::new("plan")).is_ok()
            }),
        ),
    ])
}

#[derive(Default)]
struct Count {
    read: u64,
    refused: u64,
    peak: usize,
    slowest: Duration,
}

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|a| a.parse::<u64>());
    let count = numbers.next().transpose()?.unwrap_or(1_000_000);
    let first = numbers.next().transpose()?.unwrap_or(0);
    let folder = tempfile::tempdir()?;
    let readers = readers(folder.path())?;
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    let mut bad = 0;
    std::panic::set_hook(Box::new(|_| ()));
    for number in first..first + count {
        let (name, seeds, read) = &readers[(number % readers.len() as u64) as usize];
        let bytes = damaged(seeds, &mut Random(number));
        let held = HELD.load(Ordering::Relaxed);
        PEAK.store(held, Ordering::Relaxed);
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&bytes)));
        let took = begun.elapsed();
        let peak = PEAK.load(Ordering::Relaxed).saturating_sub(held);
        let counted = counts.entry(name).or_default();
        counted.peak = counted.peak.max(peak);
        counted.slowest = counted.slowest.max(took);
        match outcome {
            Ok(true) => counted.read += 1,
            Ok(false) => counted.refused += 1,
            Err(_) => {
                bad += 1;
                println!("PANIC {name}: input {number}");
            }
        }
        if peak > MOST {
            bad += 1;
            println!("MEMORY {name}: input {number}: {} MiB", peak >> 20);
        }
    }
    for (name, c) in &counts {
        println!(
            "{name}: {} read, {} refused, at most {:.1} MiB held, the slowest in {:.0} ms",
            c.read,
            c.refused,
            c.peak as f64 / f64::from(1 << 20),
            c.slowest.as_secs_f64() * 1e3
        );
    }
    println!(
        "inputs {first} to {}: {bad} panics or excesses",
        first + count - 1
    );
    anyhow::ensure!(
        bad == 0,
        "a reader panicked, or took more memory than it may"
    );
    Ok(())
}
