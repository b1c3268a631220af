//! `[[quantize]]` tables: every method and option, round trips, and names that tell settings apart.

use std::collections::BTreeSet;
use std::path::Path;

use quantbound::experiment::plan::{Plan, PlanError, QuantizerSpec};

fn parse(quantize: &str) -> Result<Plan, PlanError> {
    let text = format!(
        "[images]\ndir = \"i\"\nskip = 8\n[calibration]\ndir = \"i\"\nlimit = 8\n\
         [[model]]\nname = \"mobilenet_v2\"\nweights = \"w.pt\"\n[[quantize]]\n{quantize}"
    );
    Plan::parse(&text, Path::new("plan.toml"))
}

const TABLES: [&str; 45] = [
    "method = \"uniform\"\nbits = [4]",
    "method = \"uniform\"\nbits = [5]",
    "method = \"uniform\"\nbits = [4]\ngranularity = [\"per-tensor\"]",
    "method = \"uniform\"\nbits = [4]\nscheme = \"asymmetric\"",
    "method = \"uniform\"\nbits = [4]\nrange = \"mse\"",
    "method = \"uniform\"\nbits = [4]\nrange = { percentile = 99.9 }",
    "method = \"uniform\"\nbits = [4]\nrange = { percentile = 99.5 }",
    "method = \"uniform\"\nbits = [4]\nrounding = \"floor\"",
    "method = \"uniform\"\nbits = [4]\nrounding = { stochastic = { seed = 1 } }",
    "method = \"uniform\"\nbits = [4]\nrounding = { stochastic = { seed = 2 } }",
    "method = \"uniform\"\nbits = [4]\nbias_correction = true",
    "method = \"dfq\"\nbits = [4]",
    "method = \"dfq\"\nbits = [4]\ngranularity = [\"per-channel\"]",
    "method = \"rex\"\nbits = [4]\norders = 2",
    "method = \"rex\"\nbits = [4]\norders = 3",
    "method = \"rex\"\nbits = [4]\norders = 2\nbudget = 0.5",
    "method = \"gpfq\"\nbits = [4]\nscalar = 1.16",
    "method = \"gpfq\"\nbits = [4]\nscalar = 1.77",
    "method = \"gpfq\"\nbits = [4]\nscalar = 1.16\nsample = 0.5",
    "method = \"gpfq\"\nbits = [4]\nscalar = 1.16\nseed = 3",
    "method = \"gpfq\"\nbits = [4]\nscalar = 1.16\nthreshold = { soft = 0.5 }",
    "method = \"gpfq\"\nbits = [4]\nscalar = 1.16\nthreshold = { hard = 0.5 }",
    "method = \"gpfq\"\nbits = [4]\nscalar = 1.16\nbias_correction = true",
    "method = \"spfq\"\nbits = [4]\nscalar = 1.16",
    "method = \"spfq\"\nbits = [4]\nscalar = 1.16\norder = 2",
    "method = \"uniform\"\nbits = [4]\nactivations = { bits = 8 }",
    "method = \"uniform\"\nbits = [4]\nactivations = { bits = 4 }",
    "method = \"uniform\"\nbits = [4]\nactivations = { bits = 8, range = \"mse\" }",
    "method = \"uniform\"\nbits = [4]\nactivations = { bits = 8, range = \"percentile\", percentile = 99.9 }",
    "method = \"gpfq\"\nbits = [4]\nscalar = 1.16\nactivations = { bits = 8 }",
    "method = \"dfq\"\nbits = [4]\nabsorb = true",
    "method = \"dfq\"\nbits = [4]\nabsorb = true\nbias_correction = true",
    "method = \"adaround\"\nbits = [4]",
    "method = \"adaround\"\nbits = [4]\niterations = 50",
    "method = \"adaround\"\nbits = [4]\nsample = 0.5",
    "method = \"adaround\"\nbits = [4]\nseed = 1",
    "method = \"adaround\"\nbits = [4]\nrange = \"mse\"",
    "method = \"adaround\"\nbits = [4]\nscheme = \"asymmetric\"",
    "method = \"adaround\"\nbits = [4]\nbias_correction = true",
    "method = \"mixed\"\nbits = [4]",
    "method = \"mixed\"\nbits = [4]\nby = \"bound\"",
    "method = \"mixed\"\nbits = [4]\nby = \"local\"",
    "method = \"mixed\"\nbits = [4]\nby = \"tails\"",
    "method = \"mixed\"\nbits = [4]\ncandidates = [2, 4, 8]",
    "method = \"mixed\"\nbits = [4]\nbias_correction = true",
];

#[test]
fn every_option_changes_the_spec_and_what_results_are_called() {
    let mut specs = BTreeSet::new();
    let mut labels = BTreeSet::new();
    for table in TABLES {
        let plan = parse(table).unwrap_or_else(|e| panic!("{table}: {e}"));
        let quantizers = plan.quantizers();
        assert_eq!(quantizers.len(), 1, "{table}");
        let spec = &quantizers[0];
        let name = spec.build().unwrap().name();
        assert!(
            specs.insert(serde_json::to_string(spec).unwrap()),
            "{table}"
        );
        let label = format!("{name} {} {}", spec.bits, spec.granularity.name());
        assert!(labels.insert(label.clone()), "{table}: {label} twice");
    }
}

#[test]
fn plans_and_specs_survive_being_written() {
    for table in TABLES {
        let plan = parse(table).unwrap();
        let text = plan.to_toml().unwrap();
        assert_eq!(
            Plan::parse(&text, Path::new("again")).unwrap(),
            plan,
            "{text}"
        );
        let spec = &plan.quantizers()[0];
        let json = serde_json::to_string(spec).unwrap();
        assert_eq!(
            &serde_json::from_str::<QuantizerSpec>(&json).unwrap(),
            spec,
            "{json}"
        );
    }
}

#[test]
fn mistakes_are_named_per_method() {
    for (table, expected) in [
        (
            "method = \"gpfq\"\nbits = [4]\nscalr = 1.2",
            "did you mean `scalar`?",
        ),
        (
            "method = \"gpfq\"\nbits = [4]\nscalar = 1.2\norders = 2",
            "unknown key `orders` in quantize, method gpfq",
        ),
        (
            "method = \"rex\"\nbits = [4]\ngranularity = [\"per-tensor\"]",
            "unknown key `granularity` in quantize, method rex",
        ),
        (
            "method = \"unifrom\"\nbits = [4]",
            "did you mean \"uniform\"?",
        ),
        ("bits = [4]", "needs a method"),
        ("method = \"gpfq\"\nbits = [4]", "scalar"),
        (
            "method = \"gpfq\"\nbits = [4]\nscalar = -1.0",
            "scalar = -1",
        ),
        (
            "method = \"gpfq\"\nbits = [16]\nscalar = 1.0",
            "2 to 15 bits",
        ),
        ("method = \"rex\"\nbits = [4]\norders = 9", "orders = 9"),
        (
            "method = \"adaround\"\nbits = [4]\niterations = 1",
            "iterations = 1",
        ),
        (
            "method = \"adaround\"\nbits = [4]\nsample = 0.0",
            "sample = 0",
        ),
        (
            "method = \"mixed\"\nbits = [4]\ncandidates = [5, 6]",
            "candidates = [5, 6]",
        ),
        (
            "method = \"mixed\"\nbits = [4]\ncandidates = [4, 2]",
            "ascending",
        ),
        (
            "method = \"mixed\"\nbits = [4]\ncandidates = [2, 17]",
            "17 bits",
        ),
        ("method = \"mixed\"\nbits = [4]\nby = \"guess\"", "guess"),
        ("method = \"uniform\"\nbits = [4]\nrange = \"msee\"", "msee"),
        (
            "method = \"uniform\"\nbits = [4]\nrange = { percentile = 10 }",
            "percentile = 10",
        ),
        (
            "method = \"uniform\"\nbits = [4]\nactivations = { bits = 9 }",
            "activations.bits = 9: 2 to 8",
        ),
        (
            "method = \"uniform\"\nbits = [4]\nactivations = { bits = 8, rnge = \"mse\" }",
            "did you mean `range`?",
        ),
        (
            "method = \"uniform\"\nbits = [4]\nactivations = { bits = 8, percentile = 99.0 }",
            "goes with range = \"percentile\"",
        ),
    ] {
        let message = parse(table).unwrap_err().to_string();
        assert!(message.contains(expected), "{table}: {message}");
    }
}

#[test]
fn calibrated_methods_need_images_to_calibrate_on() {
    let text = "[images]\ndir = \"i\"\n[[model]]\nname = \"mobilenet_v2\"\nweights = \"w\"\n\
                [[quantize]]\nmethod = \"gpfq\"\nbits = [4]\nscalar = 1.2";
    let message = Plan::parse(text, Path::new("p")).unwrap_err().to_string();
    assert!(message.contains("add [calibration]"), "{message}");
}

#[test]
fn enlarged_calibration_sets_and_replaced_activations_survive_being_written() {
    let text = |calibration: &str, model: &str| {
        format!(
            "[images]\ndir = \"i\"\nskip = 8\n[calibration]\ndir = \"i\"\nlimit = 8\n{calibration}\n\
             [[model]]\nname = \"mobilenet_v2\"\nweights = \"w.pt\"\n{model}\n\
             [[quantize]]\nmethod = \"adaround\"\nbits = [4]"
        )
    };
    let parse = |text: &str| Plan::parse(text, Path::new("plan"));
    let plan = parse(&text("augment = 64\nseed = 3", "activation = \"relu\"")).unwrap();
    assert_eq!(plan.calibration.as_ref().unwrap().augment, Some(64));
    assert!(plan.model[0].activation.is_some());
    let written = plan.to_toml().unwrap();
    assert_eq!(parse(&written).unwrap(), plan, "{written}");
    for (calibration, model, expected) in [
        ("augment = 0", "", "calibration.augment = 0"),
        ("augmnet = 4", "", "did you mean `augment`?"),
        ("", "activation = \"gelu\"", "gelu"),
    ] {
        let message = parse(&text(calibration, model)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    // Measured images are what they are.
    let wrong = text("", "").replace("skip = 8", "skip = 8\naugment = 4");
    let message = parse(&wrong).unwrap_err().to_string();
    assert!(
        message.contains("unknown key `augment` in images"),
        "{message}"
    );
}
