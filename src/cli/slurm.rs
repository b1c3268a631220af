//! `quantbound slurm PLAN > job.sbatch`

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;

use super::Outcome;
use super::options::EngineOptions;
use super::output::say;
use crate::experiment::plan::Plan;

/// Arguments of `slurm`.
#[derive(clap::Args)]
pub struct Args {
    /// The plan
    plan: PathBuf,
    /// Folder of the cells and of the merged run, seen by all nodes [default: results/runs/<plan's name>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Tasks of the array; each takes every so many-th cell
    #[arg(long, value_name = "N", default_value = "100")]
    tasks: std::num::NonZeroUsize,
    /// At most so many batches of a cell at a time [default: all of them]
    #[arg(long, value_name = "N")]
    batches: Option<std::num::NonZeroU32>,
    /// GPUs of a task
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpus: u32,
    /// A further line for the scheduler, as in "--partition=gpu"; may be given more than once
    #[arg(long = "sbatch", value_name = "OPTION")]
    options: Vec<String>,
    #[command(flatten)]
    engine: EngineOptions,
}

/// Quoted for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn path(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| {
        format!(
            "{}: a job script needs paths of UTF-8; rename it",
            path.display()
        )
    })?;
    Ok(quoted(text))
}

impl Args {
    /// Prints the script.
    pub fn run(self) -> anyhow::Result<Outcome> {
        // Refused here rather than on every node.
        Plan::read(&self.plan)?;
        let here = std::env::current_dir().context("the working directory")?;
        let stem = self.plan.file_stem().context("the plan has no file name")?;
        let out = match &self.out {
            Some(out) => here.join(out),
            None => here.join("results/runs").join(stem),
        };
        let logs = out.join("logs/%A-%a.log");
        let mut directives = vec![
            "--job-name=quantbound".to_string(),
            format!("--output={}", logs.display()),
            "--open-mode=append".to_string(),
            "--requeue".to_string(),
        ];
        if self.gpus > 0 {
            directives.push(format!("--gres=gpu:{}", self.gpus));
        }
        directives.extend(self.options.iter().cloned());
        let directives: String = directives
            .iter()
            .map(|d| format!("#SBATCH {d}\n"))
            .collect();
        let mut engine = String::new();
        if let Some(value) = self.engine.backend.to_possible_value() {
            engine += &format!("--backend {}", value.get_name());
        }
        if let Some(adapter) = &self.engine.adapter {
            engine += &format!(" --adapter {}", quoted(adapter));
        }
        if let Some(bytes) = self.engine.gpu_memory {
            engine += &format!(" --gpu-memory {bytes}");
        }
        if let Some(threads) = self.engine.threads {
            engine += &format!(" --threads {threads}");
        }
        let batches = self.batches.map(|n| format!(" --batches {n}"));
        say!(
            "{}",
            TEMPLATE
                .replace("@DIRECTIVES@", directives.trim_end())
                .replace("@HERE@", &path(&here)?)
                .replace("@PROGRAM@", &path(&std::env::current_exe()?)?)
                .replace("@PLAN@", &path(&self.plan)?)
                .replace("@OUT@", &path(&out)?)
                .replace("@TASKS@", &self.tasks.to_string())
                .replace("@BATCHES@", &batches.unwrap_or_default())
                .replace("@ENGINE@", &engine)
                .trim_end()
        );
        Ok(Outcome::Fine)
    }
}

const TEMPLATE: &str = r#"#!/bin/bash
@DIRECTIVES@
# `bash job.sbatch` hands this file to the scheduler twice: as an array that makes the cells, and as a job that merges
# them when the array is done, however it ended. Given again, it makes what is missing. The folder of results, the plan,
# its networks and its images must be seen by every node at the same paths.
set -u
cd @HERE@ || exit 2
quantbound=@PROGRAM@
plan=@PLAN@
out=@OUT@
tasks=@TASKS@
engine=(@ENGINE@)

if [ -z "${SLURM_JOB_ID:-}" ]; then
    set -e
    mkdir -p "$out/cells" "$out/logs"
    "$quantbound" cells "$plan"@BATCHES@ "${engine[@]}" > "$out/cells.jsonl"
    cells=$(wc -l < "$out/cells.jsonl")
    if [ "$cells" -lt "$tasks" ]; then tasks=$cells; fi
    array=$(sbatch --parsable --array="1-$tasks" "$0")
    array=${array%%;*}
    merge=$(QUANTBOUND_STEP=merge sbatch --parsable --export=ALL --dependency="afterany:$array" "$0")
    echo "$cells cells in $tasks tasks: array $array, merged by job ${merge%%;*} into $out/run"
    exit
fi

if [ "${QUANTBOUND_STEP:-cells}" = merge ]; then
    exec "$quantbound" merge "$out/cells" --out "$out/run" "${engine[@]}"
fi

worst=0
line=$SLURM_ARRAY_TASK_ID
cells=$(wc -l < "$out/cells.jsonl")
while [ "$line" -le "$cells" ]; do
    # What a signal ended is tried again; what failed is told when all is merged.
    for try in 1 2 3; do
        sed -n "${line}p" "$out/cells.jsonl" | "$quantbound" cell - --out "$out/cells" "${engine[@]}"
        code=${PIPESTATUS[1]}
        if [ "$code" -lt 128 ]; then break; fi
        echo "cell $line was ended by a signal ($code), attempt $try"
    done
    if [ "$code" -gt "$worst" ]; then worst=$code; fi
    line=$((line + SLURM_ARRAY_TASK_COUNT))
done
exit "$worst"
"#;
