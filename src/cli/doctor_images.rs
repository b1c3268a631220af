//! `quantbound doctor --images`: are these images, labels and preprocessing what the weights expect?

use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::doctor_findings::{Findings, Mark};
use super::table;
use crate::data::{ImageFile, ImageSet, Labels};
use crate::engine::Engine;
use crate::experiment::subject::diagnosis::{
    Diagnosis, Finding, Score, Variant, diagnose, variants,
};
use crate::experiment::subject::model::LoadedModel;
use crate::tensor::Batch;

/// Images of one forward pass.
const BATCH: usize = 20;

/// Evaluates the variants and tells what they say.
pub fn check(
    model: &LoadedModel,
    directory: &Path,
    labels: Option<&Labels>,
    limit: usize,
    engine: &dyn Engine,
    found: &mut Findings,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        model.has_logits(),
        "{} has no classifier in this checkpoint, so no answers to judge; take a checkpoint with one",
        model.network.name
    );
    let images = ImageSet::open_labelled(directory, Some(limit), labels)?;
    found.tell(Mark::Note, "labels", &images.labels().to_string())?;
    let labelled: Vec<(&ImageFile, u32)> = images
        .images
        .iter()
        .filter_map(|f| Some((f, f.label?)))
        .collect();
    anyhow::ensure!(
        !labelled.is_empty(),
        "{}: none of the images has a label, by which doctor judges (measurements and bounds need none); expected \
         name_243.jpg, a folder per class, or a labels.csv",
        directory.display()
    );
    let classes = model.network.output().c;
    let known: Vec<u32> = labelled.iter().map(|l| l.1).collect();
    // A label one too large is left to the search for shifts.
    if let Some((file, label)) = labelled.iter().find(|l| l.1 as usize > classes) {
        anyhow::bail!(
            "{}: label {label}, but {} has {classes} classes (0 to {}); these are labels of another data set",
            file.path.display(),
            model.network.name,
            classes - 1
        );
    }
    let variants = variants(&model.preprocessing);
    let outputs = outputs(model, &variants, &labelled, engine)?;
    let diagnosis = diagnose(&outputs, &known);
    let scores = diagnosis.scores.iter().map(|score| {
        json!({
            "images": variants[score.variant].name,
            "labels": shift_name(score.shift),
            "right": score.right,
            "of": diagnosis.images,
            "log_likelihood": table::json(score.log_likelihood),
        })
    });
    found.table("scores", scores.collect(), || print(&diagnosis, &variants))?;
    let (fine, text) = conclusion(&diagnosis, &variants, classes);
    let mark = if fine { Mark::Ok } else { Mark::Fail };
    Ok(found.tell(mark, "images", &text)?)
}

fn shift_name(shift: i64) -> &'static str {
    match shift {
        0 => "as given",
        1 => "minus one",
        _ => "plus one",
    }
}

/// Logits per variant and image.
fn outputs(
    model: &LoadedModel,
    variants: &[Variant],
    images: &[(&ImageFile, u32)],
    engine: &dyn Engine,
) -> anyhow::Result<Vec<Vec<Vec<f32>>>> {
    let mut runner = engine.prepare(&model.network)?;
    let mut outputs = vec![Vec::with_capacity(images.len()); variants.len()];
    for chunk in images.chunks(BATCH.min(runner.max_batch()).max(1)) {
        let mut pixels = Vec::with_capacity(chunk.len());
        for (file, _) in chunk {
            pixels.push(file.pixels(&model.preprocessing)?);
        }
        for (variant, outputs) in variants.iter().zip(&mut outputs) {
            let data = pixels
                .iter()
                .flat_map(|p| variant.preprocessing.normalize(p.as_bytes()));
            let batch = Batch {
                shape: model.preprocessing.shape(),
                data: data.collect(),
            };
            outputs.extend(runner.reference(&batch)?);
        }
    }
    Ok(outputs)
}

fn print(diagnosis: &Diagnosis, variants: &[Variant]) -> std::io::Result<()> {
    let shown = |s: &&Score| match &diagnosis.finding {
        Finding::Better(best) | Finding::Suspect(best) => {
            s.shift == 0 || s.shift == best.shift || s.variant == 0
        }
        _ => s.shift == 0 || s.variant == 0,
    };
    let rows: Vec<Vec<String>> = diagnosis
        .scores
        .iter()
        .filter(shown)
        .map(|score| {
            vec![
                variants[score.variant].name.to_string(),
                shift_name(score.shift).to_string(),
                format!("{}/{}", score.right, diagnosis.images),
                format!("{:.2}", score.log_likelihood),
            ]
        })
        .collect();
    let mut out = super::output::stdout();
    table::print(
        &mut out,
        &["images", "labels", "top-1 right", "ln p(label)"],
        &rows,
    )?;
    out.flush()
}

/// What the score has otherwise than as given.
fn changes(score: &Score, variants: &[Variant]) -> Vec<String> {
    let images = (score.variant > 0).then(|| variants[score.variant].name.to_string());
    let labels = (score.shift != 0).then(|| format!("labels {}", shift_name(score.shift)));
    images.into_iter().chain(labels).collect()
}

/// What the finding means and what to do.
fn conclusion(diagnosis: &Diagnosis, variants: &[Variant], classes: usize) -> (bool, String) {
    let n = diagnosis.images;
    let given = diagnosis.scores.first().map_or(0, |s| s.right);
    let text = match &diagnosis.finding {
        Finding::Fine => {
            let mut text =
                format!("{given} of {n} right as given, and no usual mistake would explain more");
            if let Some(score) = diagnosis.likelier() {
                text += &format!(
                    "; yet the labels are likelier with {}: more images would tell",
                    changes(score, variants).join(" and ")
                );
            }
            return (true, text);
        }
        found @ (Finding::Better(score) | Finding::Suspect(score)) => {
            let mut text = format!("{given} of {n} right as given, {} with ", score.right);
            let doubt = match found {
                Finding::Suspect(_) => " (probably: give more images to be sure)",
                _ => "",
            };
            text += &changes(score, variants).join(" and ");
            let mut parts = Vec::new();
            if score.variant > 0 {
                parts.push(variants[score.variant].advice(&variants[0].preprocessing));
            }
            if score.shift != 0 {
                parts.push(off_by_one(score.shift == 1, classes));
            }
            format!("{text}{doubt}: {}", parts.join("; and "))
        }
        Finding::Collapsed(class) => format!(
            "{given} of {n} right: nearly every image is answered with class {class}; the weights or the preprocessing \
             do not belong to this network, or a file of the weights is damaged"
        ),
        Finding::Permuted => format!(
            "{given} of {n} right, yet images of one label get the same answer: the labels count the classes in another \
             order than the network; ImageNet networks take the sorted synsets (n01440764 is 0), not the order of the \
             ILSVRC development kit, and a folder with some of the synsets only needs a labels.csv"
        ),
        Finding::Chance => format!(
            "{given} of {n} right, as guessing among {classes} classes would have: weights, images and labels do not \
             belong together; are the labels those of this data set, and is the checkpoint a trained one?"
        ),
        Finding::Low => format!(
            "{given} of {n} right, less than half, and no usual mistake explains it; compare resize, crop and \
             interpolation with those that the weights were evaluated with"
        ),
    };
    (false, text)
}

fn off_by_one(minus: bool, classes: usize) -> String {
    match minus {
        true => "the labels are off by one: they count from 1 (or from a background class 0 of 1001), the network \
                 counts from 0; take one from every label"
            .into(),
        false if classes == 1001 => {
            "the labels are off by one: the network has 1001 classes, of which 0 is the background; add one to every \
             label"
                .into()
        }
        false => "the labels are off by one: add one to every label".into(),
    }
}
