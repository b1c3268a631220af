//! The plain data that a pickle is made of, and the few names it may ask for.

/// Index of an object in [`Pickle::objects`](super::pickle::Pickle::objects).
pub type Id = usize;

/// A plain-data object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 8 bytes, two's complement, little endian.
    BigInt(&'a [u8]),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Pairs in the order they were set; a later pair with an equal key wins.
    Dict(Vec<(Id, Id)>),
    /// A class or function that state dicts need.
    Global(Global),
    /// A reference to something outside the pickle: a storage.
    Persistent(Id),
    /// What `_rebuild_tensor_v2` was called with: storage, offset, sizes, strides, and with the third version the type.
    Tensor(Vec<Id>),
    /// A value that no tensor is part of: a device, a set, a complex number.
    Other,
}

impl Object<'_> {
    /// What it is, for error texts.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::None => "None",
            Object::Bool(_) => "a bool",
            Object::Int(_) | Object::BigInt(_) => "an integer",
            Object::Float(_) => "a float",
            Object::Str(_) => "a string",
            Object::Bytes(_) => "bytes",
            Object::Tuple(_) => "a tuple",
            Object::List(_) => "a list",
            Object::Dict(_) => "a dict",
            Object::Global(_) => "a class or function",
            Object::Persistent(_) => "a storage",
            Object::Tensor(_) => "a tensor",
            Object::Other => "an object",
        }
    }
}

/// Element types of storages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    /// Integers and bools of so many bytes.
    Int(usize),
    /// Floats of 8 bits, which are not read.
    F8,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Int(size) => size,
            DType::F8 => 1,
        }
    }
}

/// The callables and classes that state dicts need, of those that `torch.load(weights_only=True)` allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    /// An ordered dict or a counter, made empty.
    Dict,
    /// A function from storage, offset, sizes and strides to a tensor.
    RebuildTensor,
    /// A function or class around a tensor, which comes first.
    RebuildParameter,
    /// `_rebuild_from_type_v2(function, type, arguments, state)`.
    RebuildFromType,
    /// A tensor class, whose state is set later: the arguments of a rebuilt tensor.
    Tensor,
    Storage(DType),
    DType(DType),
    /// A function or class whose results hold no tensors.
    Other,
}

const GLOBALS: [(&str, &str, Global); 21] = [
    ("collections", "OrderedDict", Global::Dict),
    ("collections", "Counter", Global::Dict),
    ("torch._utils", "_rebuild_tensor", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v3", Global::RebuildTensor),
    (
        "torch._utils",
        "_rebuild_parameter",
        Global::RebuildParameter,
    ),
    (
        "torch._utils",
        "_rebuild_parameter_with_state",
        Global::RebuildParameter,
    ),
    ("torch.nn.parameter", "Parameter", Global::RebuildParameter),
    (
        "torch._tensor",
        "_rebuild_from_type_v2",
        Global::RebuildFromType,
    ),
    ("torch", "Tensor", Global::Tensor),
    ("torch", "Size", Global::Other),
    ("torch", "device", Global::Other),
    ("torch.serialization", "_get_layout", Global::Other),
    ("_codecs", "encode", Global::Other),
    ("builtins", "bytearray", Global::Other),
    ("builtins", "set", Global::Other),
    ("builtins", "complex", Global::Other),
    // As Python 2 calls them.
    ("__builtin__", "bytearray", Global::Other),
    ("__builtin__", "set", Global::Other),
    ("__builtin__", "complex", Global::Other),
    (
        "torch.storage",
        "UntypedStorage",
        Global::Storage(DType::Int(1)),
    ),
];

/// Names of storages and tensors by type (`FloatStorage`), and of types (`float32`).
const TYPES: [(&str, &str, DType); 11] = [
    ("Double", "float64", DType::F64),
    ("Float", "float32", DType::F32),
    ("Half", "float16", DType::F16),
    ("BFloat16", "bfloat16", DType::BF16),
    ("Long", "int64", DType::Int(8)),
    ("Int", "int32", DType::Int(4)),
    ("Short", "int16", DType::Int(2)),
    ("Char", "int8", DType::Int(1)),
    ("Byte", "uint8", DType::Int(1)),
    ("Bool", "bool", DType::Int(1)),
    ("Untyped", "", DType::Int(1)),
];

impl Global {
    /// The global of that name, if it is one that state dicts need.
    pub fn find(module: &str, name: &str) -> Option<Global> {
        let known = GLOBALS.iter().find(|(m, n, _)| (*m, *n) == (module, name));
        if let Some((_, _, global)) = known {
            return Some(*global);
        }
        if !matches!(module, "torch" | "torch.cuda" | "torch.storage") {
            return None;
        }
        let typed = |suffix: &str| {
            let prefix = name.strip_suffix(suffix)?;
            TYPES.iter().find(|t| t.0 == prefix).map(|t| t.2)
        };
        if let Some(dtype) = typed("Storage") {
            return Some(Global::Storage(dtype));
        }
        if typed("Tensor").is_some() {
            return Some(Global::Tensor);
        }
        let dtype = TYPES.iter().find(|t| !t.1.is_empty() && t.1 == name);
        match (dtype, name) {
            (Some(t), _) => Some(Global::DType(t.2)),
            (None, "uint16") => Some(Global::DType(DType::Int(2))),
            (None, "uint32") => Some(Global::DType(DType::Int(4))),
            (None, "uint64") => Some(Global::DType(DType::Int(8))),
            (None, _) if name.starts_with("float8_") => Some(Global::DType(DType::F8)),
            (None, "complex64" | "complex128" | "per_tensor_affine" | "per_channel_affine") => {
                Some(Global::Other)
            }
            _ => None,
        }
    }
}
