//! Other runtimes on the same files: a line `RUNTIME FILE BATCH PASSES` on standard input is answered by the seconds that as many
//! passes over as many images took, after one that is not counted, or by what went wrong. Threads: `PEERS_THREADS` for tract,
//! `RTEN_NUM_THREADS`, `RAYON_NUM_THREADS` for candle.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

/// Channels, height and width of an image.
const IMAGE: [usize; 3] = [3, 224, 224];

/// Some numbers around 0.
fn numbers(n: usize) -> Vec<f32> {
    let mixed = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 8;
    (0..n)
        .map(|i| mixed(i) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

fn timed(passes: usize, mut pass: impl FnMut() -> Result<()>) -> Result<f64> {
    pass()?;
    let start = Instant::now();
    (0..passes).try_for_each(|_| pass())?;
    Ok(start.elapsed().as_secs_f64())
}

fn tract(file: &Path, batch: usize, passes: usize) -> Result<f64> {
    use tract_onnx::prelude::*;
    let threads = std::env::var("PEERS_THREADS")?.parse()?;
    let executor = tract_linalg::multithread::Executor::multithread(threads);
    tract_linalg::multithread::set_default_executor(executor);
    let [c, h, w] = IMAGE;
    let shape = [batch, c, h, w];
    let model = tract_onnx::onnx()
        .model_for_path(file)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_optimized()?
        .into_runnable()?;
    let images = Tensor::from_shape(&shape, &numbers(batch * c * h * w))?;
    timed(passes, || {
        model.run(tvec!(images.clone().into()))?;
        Ok(())
    })
}

fn rten(file: &Path, batch: usize, passes: usize) -> Result<f64> {
    use rten_tensor::{AsView, NdTensor};
    let [c, h, w] = IMAGE;
    let model = rten::Model::load_file(file)?;
    let images = NdTensor::from_data([batch, c, h, w], numbers(batch * c * h * w));
    timed(passes, || {
        model.run_one(images.view().into(), None)?;
        Ok(())
    })
}

fn candle(file: &Path, batch: usize, passes: usize) -> Result<f64> {
    use candle_core::{Device, Tensor};
    let [c, h, w] = IMAGE;
    let model = candle_onnx::read_file(file)?;
    let images = numbers(batch * c * h * w);
    let images = Tensor::from_vec(images, (batch, c, h, w), &Device::Cpu)?;
    let graph = model.graph.as_ref().context("no graph")?;
    let input = graph.input.first().context("no input")?.name.clone();
    timed(passes, || {
        let inputs = HashMap::from([(input.clone(), images.clone())]);
        candle_onnx::simple_eval(&model, inputs)?;
        Ok(())
    })
}

fn answer(line: &str) -> Result<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [runtime, file, batch, passes] = words[..] else {
        return Err(anyhow!("RUNTIME FILE BATCH PASSES, got {line:?}"));
    };
    let run = match runtime {
        "tract" => tract,
        "rten" => rten,
        "candle" => candle,
        _ => return Err(anyhow!("tract, rten or candle, got {runtime}")),
    };
    run(Path::new(file), batch.parse()?, passes.parse()?)
}

fn main() -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        match answer(&line?) {
            Ok(seconds) => println!("{seconds}"),
            Err(problem) => println!("{}", problem.to_string().lines().next().unwrap_or_default()),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}
