//! Architectures: the counts of the bounds papers, names, and agreement with PyTorch node by node.

use quantbound::network::counts::Totals;
use quantbound::network::zoo;

/// Layers, `sum p^2 c / groups`, `sum N`, weights, at 224x224 with 1000 classes.
const PUBLISHED: [(&str, [usize; 4]); 6] = [
    ("resnet18", [21, 31_635, 2_183_168, 11_678_912]),
    ("resnet34", [37, 65_043, 3_437_568, 21_779_648]),
    ("resnet50", [54, 54_931, 10_664_448, 25_502_912]),
    ("resnet101", [105, 115_859, 15_782_400, 44_442_816]),
    ("resnet152", [156, 169_619, 22_104_576, 60_040_384]),
    ("mobilenet_v2", [53, 10_100, 6_767_200, 3_469_760]),
];

#[test]
fn counts_are_the_published_ones() {
    for (model, expected) in PUBLISHED {
        let Totals {
            layers,
            sum_fan_in,
            sum_inputs,
            weights,
            ..
        } = zoo::skeleton(model).unwrap().totals();
        assert_eq!(
            [layers, sum_fan_in, sum_inputs, weights],
            expected,
            "{model}"
        );
    }
}

#[test]
fn every_model_is_found_and_fits_together() {
    for model in zoo::MODELS {
        let found = zoo::Model::find(model).unwrap();
        for &naming in found.namings() {
            let blueprint = found.blueprint(Some(7), found.side(), naming);
            let network = blueprint.skeleton().unwrap();
            assert_eq!(network.name, model);
            assert_eq!(network.output().len(), 7, "{model} {naming}");
            let features = found.blueprint(None, found.side(), naming);
            assert_eq!(features.steps.len() + 1, blueprint.steps.len());
        }
    }
}

#[test]
fn misspelt_names_get_a_suggestion() {
    for (wrong, right) in [
        ("resnet-50", "resnet50"),
        ("mobilenetv2", "mobilenet_v2"),
        ("efficientnet_lite9", "efficientnet_lite"),
        ("cifar_resnet21", "cifar_resnet20"),
    ] {
        let message = zoo::skeleton(wrong).unwrap_err().to_string();
        assert!(message.contains("did you mean"), "{message}");
        assert!(message.contains(right), "{message}");
    }
    assert!(zoo::skeleton("mobilenet_v2_0.001").is_err());
    assert!(zoo::skeleton("cifar_resnet18446744073709551615").is_err());
}
