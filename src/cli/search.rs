//! `quantbound search`: the worst input of the box that bounds speak of.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde_json::json;

use super::Outcome;
use super::options::{EngineOptions, ModelOptions, granularity, of_file, run_dir, tell_notes};
use super::output::{note, say, write_whole};
use super::progress::counter;
use super::table::{self, number};
use crate::data::ImageSet;
use crate::engine::cpu::CpuEngine;
use crate::engine::{Engine, Exact, TapStats};
use crate::experiment::code;
use crate::experiment::plan::QuantizerSpec;
use crate::experiment::search::{
    self as searching, Ground, IMAGES, Method, Record, SearchError, Task, Verdicts, Worst, counts,
    until, verdicts, write_worst,
};
use crate::experiment::subject::model::LoadedModel;
use crate::experiment::subject::saved::models_for;
use crate::facts;
use crate::network::Tap;
use crate::quant::uniform::Scheme;
use crate::quant::{Granularity, QuantizedNetwork};
use crate::results::verdict::Verdict;

/// Arguments of `search`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// Bit width of the weights, 2 to 16; they are quantized uniformly and symmetrically
    #[arg(long, value_name = "B", required_unless_present = "quantized", value_parser = clap::value_parser!(u32).range(2..=16))]
    bits: Option<u32>,
    /// Scales per-tensor or per-channel
    #[arg(long, default_value = "per-channel", value_parser = granularity)]
    granularity: Granularity,
    /// Instead of bits: a network saved by `quantbound quantize`, or the ONNX file of one that another tool quantized
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bits", "granularity"])]
    quantized: Option<PathBuf>,
    /// Folder of images to begin with
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Use only the first so many images
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// gradient (projected gradient ascent, on the processor), square (square attack, on any engine), or both
    #[arg(long, value_enum, default_value_t = Methods::Both)]
    method: Methods,
    /// Inputs that each method evaluates, beside the images
    #[arg(long, default_value_t = 600, value_name = "N")]
    budget: usize,
    /// Seed of all random choices
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Depth of the layer to search at [default: the output]
    #[arg(long, value_name = "L")]
    depth: Option<usize>,
    /// search.json on standard output in the place of tables (results/schema.md, --json)
    #[arg(long)]
    json: bool,
    /// Where state and results go; the same command goes on from there
    /// [default: results/runs/search-<model>-<hash of the settings>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Methods {
    Gradient,
    Square,
    Both,
}

impl Methods {
    fn list(self) -> &'static [Method] {
        match self {
            Self::Gradient => &[Method::Gradient],
            Self::Square => &[Method::Square],
            Self::Both => &[Method::Gradient, Method::Square],
        }
    }
}

impl Args {
    /// Searches, evaluates what was found in f64 and holds it against the bounds.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let model = self.model.load()?;
        let tap = tap(&model, self.depth)?;
        let spec = self.spec()?;
        tell_notes(&models_for(&spec, std::slice::from_ref(&model))?.notes);
        let quantized = spec.build()?.quantize(&model.network)?;
        let images = ImageSet::open(&self.images, self.limit)?;
        model.check_labels(&images)?;
        let selected = self.engine.select()?;
        let engine = selected.engine.as_ref();
        let task_id = self.id(&model, &images, &spec, engine)?;
        let out = self.out.clone();
        let out = out.unwrap_or_else(|| run_dir("search", &self.model.model, &task_id));
        std::fs::create_dir_all(&out)
            .with_context(|| format!("{}: cannot be made", out.display()))?;

        let (network, part) = until(&model.network, &quantized, tap.node);
        let region = Task::region(&network, &model.domain())?;
        let mut task = Task {
            id: task_id,
            images: crate::tensor::Batch {
                shape: network.input,
                data: Vec::new(),
            },
            network,
            quantized: part,
            region,
            names: Vec::new(),
            budget: self.budget,
            seed: self.seed,
        };
        let natural = natural(&task, &model, &images, engine)?;
        (task.images, task.names) = natural
            .batch(&task.network)
            .context("no image to begin with")?;
        let processor = CpuEngine::f32(self.engine.threads)?;
        let mut records = Vec::new();
        for &method in self.method.list() {
            records.push((method, follow(method, &task, engine, &processor, &out)?));
        }
        let found = Found::new(
            &task,
            &natural,
            records,
            &CpuEngine::f64(self.engine.threads)?,
        )?;
        self.conclude(&found, &task, &model, (&spec, &quantized), tap, &out)
    }

    /// What the weights are quantized to.
    fn spec(&self) -> anyhow::Result<QuantizerSpec> {
        let table = match (&self.quantized, self.bits) {
            (Some(file), _) => of_file(file)?,
            (None, Some(bits)) => {
                return Ok(QuantizerSpec::uniform(
                    bits,
                    self.granularity,
                    Scheme::Symmetric,
                ));
            }
            (None, None) => bail!("what to quantize to? give --bits B or --quantized FILE"),
        };
        let spec = table.specs().next();
        spec.context("the quantized network has no bit width")
    }

    /// Everything that the state of a search depends on.
    fn id(
        &self,
        model: &LoadedModel,
        images: &ImageSet,
        spec: &QuantizerSpec,
        engine: &dyn Engine,
    ) -> anyhow::Result<String> {
        let text = json!({
            "model": model.network.name, "network": model.content,
            "code": [code::measuring(&engine.device().engine), code::SEARCH.to_string()],
            "preprocessing": model.preprocessing, "images": images.hash(), "quantizer": serde_json::to_value(spec)?,
            "budget": self.budget, "seed": self.seed, "depth": self.depth,
            "engine": engine.device().engine, "version": searching::VERSION,
        });
        Ok(blake3::hash(text.to_string().as_bytes())
            .to_hex()
            .to_string())
    }

    fn conclude(
        &self,
        found: &Found,
        task: &Task,
        model: &LoadedModel,
        (spec, quantized): (&QuantizerSpec, &QuantizedNetwork),
        tap: Tap,
        out: &Path,
    ) -> anyhow::Result<Outcome> {
        let (network, domain) = (&model.network, model.domain());
        let (mut exact, input) = found.worst();
        let mut verdicts = verdicts(network, quantized, &domain, tap.node, &exact, None)?;
        task.decide(&mut verdicts, &mut exact, input)?;
        let worst = exact.max_abs_diff;
        let (mut files, png) = write_worst(out, task, input, &model.preprocessing)?;
        let cpu = CpuEngine::f64(self.engine.threads)?;
        let png = match png {
            Some(png) => task.values(&cpu, &[png])?.pop(),
            None => None,
        };
        let layer = &network.nodes[tap.node].name;
        let place = if network.nodes[tap.node].is_layer() {
            format!("depth {} ({layer})", tap.depth)
        } else {
            format!("the output ({layer})")
        };
        let mut stdout: Box<dyn Write> = match self.json {
            true => Box::new(std::io::sink()),
            false => Box::new(super::output::stdout()),
        };
        writeln!(
            stdout,
            "{}, {} bit {}: max |y' - y| at {place}, inputs up to {:.4}",
            network.name,
            spec.bits,
            spec.granularity.name(),
            domain.magnitude()
        )?;
        found.print(&mut stdout)?;
        let rows: Vec<Vec<String>> = verdicts
            .iter()
            .map(|(id, log10, verdict)| {
                let above = log10 - worst.log10();
                vec![
                    id.clone(),
                    table::log10(*log10),
                    format!("{above:.2}"),
                    verdict.name().to_string(),
                ]
            })
            .collect();
        table::print(
            &mut stdout,
            &["bound", "log10", "decades above", "verdict"],
            &rows,
        )?;
        writeln!(
            stdout,
            "verdicts {}",
            table::verdicts(&counts(&verdicts, &exact))
        )?;
        let summary = out.join("search.json");
        let text = found.json(self, spec, place.as_str(), &verdicts, png);
        write_whole(&summary, |part| std::fs::write(part, format!("{text:#}\n")))?;
        files.push(summary);
        for file in &files {
            writeln!(stdout, "wrote  {}", file.display())?;
        }
        if let Some(png) = png {
            writeln!(stdout, "as a PNG of 8 bits it reaches {}", number(png))?;
        }
        let best = verdicts.iter().find(|v| v.0 == facts::BEST.id);
        writeln!(
            stdout,
            "natural {}  found {}  best bound {}",
            number(found.natural.max_abs_diff),
            number(worst),
            best.map_or("-".to_string(), |b| format!("10^{:.2}", b.1))
        )?;
        if self.json {
            say!("{text:#}");
        }
        let bad = |v: &Verdict| matches!(v, Verdict::Violated | Verdict::Invalid);
        Ok(if !verdicts.iter().any(|v| bad(&v.2)) {
            Outcome::Fine
        } else {
            Outcome::Failed
        })
    }
}

/// The layer of that depth, or the output.
fn tap(model: &LoadedModel, depth: Option<usize>) -> anyhow::Result<Tap> {
    let taps = model.network.taps();
    let layers = model.network.layers().count();
    match depth {
        None => taps.last().copied().context("a network without nodes"),
        Some(depth) if (1..=layers).contains(&depth) => Ok(taps[depth - 1]),
        Some(depth) => bail!(
            "--depth {depth}: {} has layers 1 to {layers}; leave it out for the output",
            model.network.name
        ),
    }
}

/// The worst of the images.
fn natural(
    task: &Task,
    model: &LoadedModel,
    images: &ImageSet,
    engine: &dyn Engine,
) -> anyhow::Result<Worst> {
    let mut runner = engine.prepare(&task.network)?;
    let variant = runner.load(&task.quantized)?;
    let bar = counter(images.len(), "images");
    let mut worst = Worst::default();
    let most = runner.max_batch().clamp(1, IMAGES);
    for first in (0..images.len()).step_by(most) {
        let range = first..(first + most).min(images.len());
        let input = images.load(range.clone(), &model.preprocessing)?;
        runner.reference(&input)?;
        let comparison = runner.compare(&variant)?;
        for (i, stats) in comparison.stats.iter().enumerate() {
            let value = stats.last().map_or(f64::NAN, TapStats::largest);
            worst.see(value, &images.images[first + i].name, input.image(i));
        }
        bar.inc(range.len() as u64);
    }
    bar.finish_and_clear();
    Ok(worst)
}

/// Runs one method with progress.
fn follow(
    method: Method,
    task: &Task,
    engine: &dyn Engine,
    processor: &CpuEngine<f32>,
    out: &Path,
) -> Result<Record, SearchError> {
    let bar = counter(task.budget, "evaluations");
    let mut shown = 0;
    let mut runner = engine.prepare(&task.network)?;
    let variant = runner.load(&task.quantized)?;
    let ground = Ground {
        runner: runner.as_mut(),
        variant: &variant,
    };
    let record = searching::search(method, task, ground, processor, Some(out), &mut |record| {
        let done = record.evaluations();
        if bar.position() == 0 && done > 0 {
            // What was there before says nothing of the speed.
            bar.set_position(done as u64);
            bar.reset_eta();
        }
        bar.set_position(done as u64);
        let line = format!(
            "{}: {} from {}",
            method.name(),
            number(record.best),
            record.start
        );
        if bar.is_hidden() && done >= shown + task.budget.div_ceil(10) {
            note!("{done}/{} evaluations, {line}", task.budget);
            shown = done;
        }
        bar.set_message(line);
    });
    bar.finish_and_clear();
    record
}

/// What was found, in f64.
struct Found {
    /// The worst image's.
    natural: Exact,
    natural_name: String,
    natural_input: Vec<f32>,
    /// Each method's, with what it has seen.
    methods: Vec<(Method, Record, Exact)>,
}

impl Found {
    fn new(
        task: &Task,
        natural: &Worst,
        records: Vec<(Method, Record)>,
        engine: &dyn Engine,
    ) -> Result<Self, SearchError> {
        let mut inputs = vec![task.images.image(0).to_vec()];
        inputs.extend(records.iter().map(|(_, r)| r.input.clone()));
        let values = task.exact(engine, &inputs)?;
        let methods = records.into_iter().zip(&values[1..]);
        Ok(Self {
            natural: values[0],
            natural_name: natural.kept[0].1.clone(),
            natural_input: inputs.swap_remove(0),
            methods: methods.map(|((m, r), &v)| (m, r, v)).collect(),
        })
    }

    /// The largest of all, with its input; NaN when one of them is, so that it is no success.
    fn worst(&self) -> (Exact, &[f32]) {
        let mut worst = (self.natural, self.natural_input.as_slice());
        for (_, record, exact) in &self.methods {
            if exact.max_abs_diff.is_nan() || exact.max_abs_diff > worst.0.max_abs_diff {
                worst = (*exact, &record.input);
            }
        }
        worst
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut rows = vec![vec![
            "images".to_string(),
            number(self.natural.max_abs_diff),
            String::new(),
            String::new(),
            self.natural_name.clone(),
        ]];
        for (method, record, exact) in &self.methods {
            rows.push(vec![
                method.name().to_string(),
                number(exact.max_abs_diff),
                number(exact.max_abs_diff / self.natural.max_abs_diff),
                record.evaluations().to_string(),
                record.start.clone(),
            ]);
        }
        let header = [
            "search",
            "max |y' - y| (f64)",
            "x natural",
            "evaluations",
            "grew from",
        ];
        table::print(out, &header, &rows)
    }

    fn json(
        &self,
        args: &Args,
        spec: &QuantizerSpec,
        place: &str,
        verdicts: &Verdicts,
        png: Option<f64>,
    ) -> serde_json::Value {
        let methods = self.methods.iter().map(|(method, record, exact)| {
            json!({
                "method": method, "max_abs_diff": table::json(record.best),
                "max_abs_diff_f64": table::json(exact.max_abs_diff),
                "max_abs_diff_at_least": table::json(exact.at_least),
                "ratio": table::json(exact.max_abs_diff / self.natural.max_abs_diff), "start": record.start,
                "evaluations": record.evaluations(), "trace": record.trace.iter().map(|&v| table::json(v)).collect::<Vec<_>>(),
            })
        });
        let methods: Vec<_> = methods.collect();
        let verdicts: Vec<_> = verdicts
            .iter()
            .map(|(id, log10, verdict)| {
                json!({
                    "bound": id, "log10_bound": table::json(*log10), "verdict": verdict,
                })
            })
            .collect();
        json!({
            "model": args.model.model, "bits": spec.bits, "granularity": spec.granularity,
            "seed": args.seed, "budget": args.budget, "place": place,
            "natural": {"image": self.natural_name, "max_abs_diff_f64": table::json(self.natural.max_abs_diff)},
            "methods": methods, "png_max_abs_diff_f64": png.map(table::json), "verdicts": verdicts,
        })
    }
}
