//! Two networks of one skeleton: nothing apart from itself, and a planted fault is the first row.

use std::path::Path;

use quantbound::engine::cpu::CpuEngine;
use quantbound::experiment::comparison::{Comparison, File, compare};
use quantbound::tensor::Batch;

use crate::common::onnx_golden::uniform;

fn open(path: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path);
    File::open(&path, None).unwrap_or_else(|e| panic!("{e}"))
}

fn compared(a: &File, b: &File) -> Comparison {
    let shape = a.network().input;
    let batch = |seed| Batch {
        shape,
        data: uniform(seed, 2 * shape.len()),
    };
    let engine = CpuEngine::f32(Some(1)).unwrap();
    compare(&engine, a, b, [1, 2].map(|s| Ok(batch(s))).into_iter())
        .unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_network_is_the_same_as_itself() {
    for name in [
        "onnx/resnet_torchscript.onnx",
        "quantized/resnet_qdq_s8s8.onnx",
        "quantized/resnet_qop_u8s8.onnx",
    ] {
        let file = open(name);
        let found = compared(&file, &file);
        assert_eq!((found.images, found.top1_agree), (4, 4), "{name}");
        assert_eq!(found.layers.len(), file.network().layers().count());
        assert_eq!(found.output.max_abs_diff, 0.0, "{name}");
        for c in &found.layers {
            let apart = [&c.isolated, &c.accumulated].map(|x| (x.max_abs_diff, x.non_finite));
            assert_eq!(
                apart,
                [(0.0, 0); 2],
                "{name}: {}",
                file.network().nodes[c.pair.a].name
            );
        }
    }
}

#[test]
fn a_planted_fault_is_the_first_row() {
    let float = open("onnx/resnet_torchscript.onnx");
    for form in ["resnet_qdq_s8s8", "resnet_qop_u8s8"] {
        let sound = compared(&float, &open(&format!("quantized/{form}.onnx")));
        assert!(sound.layers[0].isolated.worst_channel().1 < 0.2, "{form}");
        for fault in ["scale", "zero"] {
            let faulty = open(&format!("quantized/{form}_{fault}.onnx"));
            let found = compared(&float, &faulty);
            let first = &found.layers[0];
            let name = &float.network().nodes[first.pair.a].name;
            assert!(name.contains("/5/conv1"), "{form}, {fault}: {name}");
            if fault == "zero" {
                assert_eq!(first.isolated.worst_channel().0, 1, "{form}");
            }
        }
    }
}
