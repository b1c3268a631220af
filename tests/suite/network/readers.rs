//! The checkpoint readers: what PyTorch writes is read to the bit, and nothing that a file may hold makes them
//! panic, run code or ask for memory without bound. Fixtures: scripts/oracle/make_reader_fixtures.py.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quantbound::network::checkpoint::{StateDict, pytorch, safetensors};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    tensors: BTreeMap<String, ExpectedTensor>,
    integers: Vec<String>,
}

#[derive(Deserialize)]
struct ExpectedTensor {
    dims: Vec<usize>,
    data: Vec<f32>,
}

/// The good fixtures by file name, with what they hold.
fn fixtures() -> BTreeMap<String, Expected> {
    serde_json::from_slice(&crate::common::goldens::read("checkpoints/expected.json")).unwrap()
}

fn fixture(name: &str) -> Vec<u8> {
    crate::common::goldens::read(&format!("checkpoints/{name}"))
}

/// Reads as the model zoo does.
fn read(bytes: &[u8]) -> Result<StateDict, String> {
    match pytorch::looks_like(bytes) {
        true => pytorch::parse(bytes),
        false => safetensors::parse(bytes),
    }
}

/// A small safetensors file with every kind of float and an integer.
fn small_safetensors() -> Vec<u8> {
    use ::safetensors::{Dtype, serialize, tensor::TensorView};
    let f32s: Vec<u8> = [1.0f32, -2.5, 3.0, 0.0, 1e-40, f32::MAX]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let f64s: Vec<u8> = [0.1f64, -1e300]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let f16s: Vec<u8> = [0x3c00u16, 0xc000, 0x0001]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let bf16s: Vec<u8> = [0x3f80u16, 0xc000]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let views = [
        ("a", TensorView::new(Dtype::F32, vec![2, 3], &f32s).unwrap()),
        ("b", TensorView::new(Dtype::F64, vec![2], &f64s).unwrap()),
        ("c", TensorView::new(Dtype::F16, vec![3, 1], &f16s).unwrap()),
        ("d", TensorView::new(Dtype::BF16, vec![2], &bf16s).unwrap()),
        (
            "n",
            TensorView::new(Dtype::I64, vec![], &[7, 0, 0, 0, 0, 0, 0, 0]).unwrap(),
        ),
    ];
    serialize(views, None).unwrap()
}

#[test]
fn pytorch_files_are_read_to_the_bit() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 27);
    for (name, expected) in fixtures {
        let bytes = fixture(&name);
        assert!(pytorch::looks_like(&bytes), "{name}");
        let dict = pytorch::parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let names: Vec<_> = dict.tensors.keys().collect();
        assert_eq!(names, expected.tensors.keys().collect::<Vec<_>>(), "{name}");
        assert_eq!(
            dict.integers.into_iter().collect::<Vec<_>>(),
            expected.integers,
            "{name}"
        );
        for (key, tensor) in &dict.tensors {
            let expected = &expected.tensors[key];
            assert_eq!(tensor.dims(), expected.dims, "{name}: {key}");
            let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(tensor.data()), bits(&expected.data), "{name}: {key}");
        }
    }
}

#[test]
fn the_weights_are_found_in_their_wrappers_and_named() {
    let notes = |name: &str| pytorch::parse(&fixture(name)).unwrap().notes.join("\n");
    assert_eq!(notes("plain_zip.pt"), "");
    assert_eq!(notes("nested_zip.pt"), "weights under \"state_dict\"");
    assert_eq!(notes("wrapped_net_zip.pt"), "weights under \"net\"");
    assert_eq!(
        notes("wrapped_deep_zip.pt"),
        "weights under \"trainer.weights\""
    );
    let averaged = notes("wrapped_averaged_zip.pt");
    assert!(
        averaged.starts_with("weights under \"model\""),
        "{averaged}"
    );
    assert!(
        averaged.contains("3 tensors under \"model_ema\" are left out"),
        "{averaged}"
    );
    assert_eq!(
        notes("wrapped_only_averaged_zip.pt"),
        "weights under \"model_ema\""
    );
}

/// A byte can ask for an object, which takes far more: objects are counted.
#[test]
fn objects_are_counted() {
    for opcodes in [&b"N"[..], b"(", b"}", b"N2"] {
        let mut main = b"\x80\x02".to_vec();
        main.extend(opcodes.iter().cycle().take(8 << 20));
        let text = pytorch::parse(&legacy_file(&main, &[1.0])).unwrap_err();
        assert!(text.contains("objects"), "{text}");
    }
}

/// An entry that unpacks to far more than the file warrants is refused before it is unpacked.
#[test]
fn compressed_entries_are_limited() {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    zip.start_file("a/data.pkl", deflated).unwrap();
    zip.write_all(&vec![b'N'; 200 << 20]).unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    assert!(bytes.len() < 1 << 20);
    let text = pytorch::parse(&bytes).unwrap_err();
    assert!(text.contains("would unpack to"), "{text}");
}

#[test]
fn safetensors_floats_become_f32_and_integers_names() {
    let dict = safetensors::parse(&small_safetensors()).unwrap();
    assert_eq!(dict.tensors["a"].dims(), [2, 3]);
    assert_eq!(
        dict.tensors["a"].data(),
        [1.0, -2.5, 3.0, 0.0, 1e-40, f32::MAX]
    );
    assert_eq!(dict.tensors["b"].data(), [0.1, f32::NEG_INFINITY]);
    assert_eq!(dict.tensors["c"].data(), [1.0, -2.0, 2.0f32.powi(-24)]);
    assert_eq!(dict.tensors["d"].data(), [1.0, -2.0]);
    assert_eq!(dict.integers.into_iter().collect::<Vec<_>>(), ["n"]);
}

#[test]
fn what_is_no_state_dict_is_refused_by_name() {
    for (name, parts) in [
        (
            "refused_command_zip.pt",
            ["posix.system", "plain state dict"],
        ),
        (
            "refused_command_legacy.pt",
            ["posix.system", "plain state dict"],
        ),
        (
            "refused_module_zip.pt",
            ["torch.nn.modules.linear.Linear", "plain state dict"],
        ),
        (
            "refused_mixed_zip.pt",
            ["\"epoch\" is an integer", "plain state dict"],
        ),
    ] {
        let text = read(&fixture(name)).expect_err(name);
        assert!(
            parts.iter().all(|part| text.contains(part)),
            "{name}: {text}"
        );
    }
    assert!(!crate::common::goldens::repository("this-must-not-exist").exists());
}

#[test]
fn what_is_no_checkpoint_is_explained() {
    for (bytes, part) in [
        (&b""[..], "fetch it again"),
        (b"PK\x03\x04", "fetch it again"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "git lfs pull",
        ),
        (
            b"\x80\x02\x8a\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01.",
            "magic number",
        ),
        (b"\x80\x02\x8a\x0a\x00", "truncated"),
    ] {
        let text = read(bytes).unwrap_err();
        assert!(text.contains(part), "{bytes:?}: {text}");
    }
}

/// A download that stopped anywhere is an error, whatever the format.
#[test]
fn every_truncation_is_an_error() {
    let mut files: Vec<(String, Vec<u8>)> = fixtures()
        .into_keys()
        .map(|name| (name.clone(), fixture(&name)))
        .collect();
    files.push(("safetensors".into(), small_safetensors()));
    for (name, bytes) in files {
        for keep in 0..bytes.len() {
            let Ok(dict) = read(&bytes[..keep]) else {
                continue;
            };
            // A tar archive ends with blocks of zeros, which may be missing.
            assert!(
                name.ends_with(".tar") && same(&dict, &read(&bytes).unwrap()),
                "{name}: {keep} of {} bytes were taken for a checkpoint",
                bytes.len()
            );
        }
    }
}

/// Zip archives carry checksums: a flipped bit is found, or is where nothing is read.
#[test]
fn a_flipped_bit_never_panics_and_in_zip_files_never_changes_a_tensor() {
    for name in fixtures().into_keys() {
        let mut bytes = fixture(&name);
        let original = read(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(dict) = read(&bytes)
                && name.ends_with("_zip.pt")
            {
                assert!(same(&dict, &original), "{name}: bit {bit}");
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
    let mut bytes = small_safetensors();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = read(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Equality that takes NaN for equal to itself.
fn same(a: &StateDict, b: &StateDict) -> bool {
    let bits = |d: &StateDict| -> Vec<(String, Vec<usize>, Vec<u32>)> {
        let entry = |(n, t): (&String, &quantbound::tensor::Tensor)| {
            (
                n.clone(),
                t.dims().to_vec(),
                t.data().iter().map(|x| x.to_bits()).collect(),
            )
        };
        d.tensors.iter().map(entry).collect()
    };
    a.integers == b.integers && bits(a) == bits(b)
}

/// A legacy file around a main pickle, with one float storage `"0"` of `elements`.
fn legacy_file(main: &[u8], elements: &[f32]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec();
    file.extend(b"\x80\x02M\xe9\x03.");
    file.extend(b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.");
    file.extend(main);
    file.extend(b"\x80\x02]X\x01\x00\x00\x000a.");
    file.extend((elements.len() as u64).to_le_bytes());
    file.extend(elements.iter().flat_map(|x| x.to_le_bytes()));
    file
}

/// The pickle of `{"w": tensor}` over a storage that claims `len` elements.
fn main_pickle(len: i32, offset: i32, size: i32, stride: i32) -> Vec<u8> {
    let int = |v: i32| [b"J".as_slice(), &v.to_le_bytes()].concat();
    let mut p = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    p.extend(
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu",
    );
    p.extend(int(len));
    p.extend(b"tQ");
    p.extend(int(offset));
    p.extend(int(size));
    p.extend(b"\x85");
    p.extend(int(stride));
    p.extend(b"\x85\x89)tRs.");
    p
}

#[test]
fn views_must_lie_inside_their_storage() {
    let elements: Vec<f32> = (0..6).map(|i| i as f32).collect();
    let parse = |len, offset, size, stride| {
        pytorch::parse(&legacy_file(
            &main_pickle(len, offset, size, stride),
            &elements,
        ))
    };
    assert_eq!(
        parse(6, 1, 3, 2).unwrap().tensors["w"].data(),
        [1.0, 3.0, 5.0]
    );
    assert_eq!(parse(6, 5, 4, 0).unwrap().tensors["w"].data(), [5.0; 4]);
    for (len, offset, size, stride) in [
        (6, 2, 3, 2),
        (6, 6, 1, 1),
        (6, 0, 7, 1),
        (6, -1, 1, 1),
        (6, 0, 2, -1),
        (6, 0, -2, 1),
        (7, 0, 1, 1),
        (-6, 0, 1, 1),
        (i32::MAX, 0, i32::MAX, 1),
        (6, 0, i32::MAX, 0),
        (6, i32::MAX, i32::MAX, i32::MAX),
    ] {
        let text = parse(len, offset, size, stride).err();
        assert!(text.is_some(), "{len} {offset} {size} {stride}");
    }
}

/// A dict whose values refer to one storage again and again may not unfold into more than the budget.
#[test]
fn repeated_views_cannot_exhaust_memory() {
    let mut p = b"\x80\x02}(".to_vec();
    let tensor = &main_pickle(1, 0, 1000, 0)[3..];
    let body = &tensor[6..tensor.len() - 2];
    for i in 0..200u8 {
        p.extend(b"X\x02\x00\x00\x00");
        p.extend([b'a' + i / 20, b'a' + i % 20]);
        p.extend(body);
    }
    p.extend(b"u.");
    let text = pytorch::parse(&legacy_file(&p, &[1.0])).unwrap_err();
    assert!(
        text.contains("more elements than the file has bytes"),
        "{text}"
    );
}

#[test]
fn a_dict_that_holds_itself_is_refused() {
    // d = {}; d["model"] = d; d["w"] = tensor
    let mut main = main_pickle(1, 0, 1, 1);
    let opening = main.iter().position(|&b| b == b'}').unwrap() + 1;
    main.splice(opening..opening, *b"q\x00X\x05\x00\x00\x00modelh\x00s");
    let text = pytorch::parse(&legacy_file(&main, &[1.0])).unwrap_err();
    assert!(text.contains("\"model\" is a dict"), "{text}");
}

/// Opcodes and small operands, so that random sequences get past the first byte.
fn opcodes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(
            b"(.012NtldaesubQR)]}\x85\x86\x87\x88\x89\x93\x94"
                .iter()
                .map(|b| vec![*b])
                .collect::<Vec<_>>()
        ),
        any::<u8>().prop_map(|v| vec![b'K', v]),
        any::<[u8; 4]>().prop_map(|v| [&b"J"[..], &v].concat()),
        (0u8..4).prop_map(|v| vec![b'q', v]),
        (0u8..4).prop_map(|v| vec![b'h', v]),
        (0u8..6, any::<[u8; 8]>())
            .prop_map(|(n, v)| [&[0x8a, n][..], &v[..usize::from(n)]].concat()),
        prop::sample::select(vec![
            b"ccollections\nOrderedDict\n".to_vec(),
            b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(),
            b"ctorch._utils\n_rebuild_parameter\n".to_vec(),
            b"ctorch\nFloatStorage\n".to_vec(),
            b"ctorch\nLongStorage\n".to_vec(),
            b"X\x07\x00\x00\x00storage".to_vec(),
            b"X\x01\x00\x00\x000".to_vec(),
            b"X\x05\x00\x00\x00model".to_vec(),
            main_pickle(2, 0, 2, 1)[2..].to_vec(),
        ]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), opening in 0usize..4) {
        let openings: [&[u8]; 4] = [b"", b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"\x40\0\0\0\0\0\0\0{"];
        let _ = read(&[openings[opening], &bytes].concat());
    }

    #[test]
    fn random_pickles_never_panic(main in opcodes(), keys in opcodes()) {
        let _ = pytorch::parse(&legacy_file(&main, &[1.0, 2.0]));
        let mut file = legacy_file(b"", &[]);
        file.truncate(file.len() - 8 - b"\x80\x02]X\x01\x00\x00\x000a.".len());
        file.extend(main_pickle(2, 0, 2, 1));
        file.extend(keys);
        let _ = pytorch::parse(&file);
    }

    #[test]
    fn overwritten_stretches_never_panic(
        which in 0usize..28,
        at in any::<prop::sample::Index>(),
        patch in prop::collection::vec(any::<u8>(), 1..24),
        cut in any::<prop::sample::Index>(),
    ) {
        let names: Vec<String> = fixtures().into_keys().collect();
        let mut bytes = names.get(which).map_or_else(small_safetensors, |name| fixture(name));
        let at = at.index(bytes.len());
        for (byte, new) in bytes[at..].iter_mut().zip(patch) {
            *byte = new;
        }
        let _ = read(&bytes);
        bytes.drain(..cut.index(bytes.len()).min(64));
        let _ = read(&bytes);
    }

    #[test]
    fn any_view_is_gathered_or_refused(len in -1i32..9, offset in -1i32..9, size in -1i32..9, stride in -1i32..9) {
        let elements: Vec<f32> = (0..len.max(0)).map(|i| i as f32).collect();
        let got = pytorch::parse(&legacy_file(&main_pickle(len, offset, size, stride), &elements));
        let index = |i: i32| offset + i * stride;
        let valid = len >= 0 && offset >= 0 && stride >= 0 && size >= 0
            && (size == 0 || index(size - 1) < len);
        prop_assert_eq!(got.is_ok(), valid);
        if let Ok(dict) = got {
            let expected: Vec<f32> = (0..size).map(|i| index(i) as f32).collect();
            prop_assert_eq!(dict.tensors["w"].data(), &expected[..]);
        }
    }
}

#[test]
fn a_header_of_many_megabytes_is_refused() {
    let header = b" ".repeat(9 << 20);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    let error = safetensors::parse(&bytes).unwrap_err();
    assert!(error.contains("a header of 9437184 bytes"), "{error}");
}
