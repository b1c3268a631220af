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
    /// What `_rebuild_tensor_v2` was called with.
    Tensor(Vec<Id>),
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
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Int(size) => size,
        }
    }
}

/// The callables and classes that state dicts need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(DType),
}

const GLOBALS: [(&str, &str, Global); 13] = [
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    (
        "torch._utils",
        "_rebuild_parameter",
        Global::RebuildParameter,
    ),
    ("torch", "DoubleStorage", Global::Storage(DType::F64)),
    ("torch", "FloatStorage", Global::Storage(DType::F32)),
    ("torch", "HalfStorage", Global::Storage(DType::F16)),
    ("torch", "BFloat16Storage", Global::Storage(DType::BF16)),
    ("torch", "LongStorage", Global::Storage(DType::Int(8))),
    ("torch", "IntStorage", Global::Storage(DType::Int(4))),
    ("torch", "ShortStorage", Global::Storage(DType::Int(2))),
    ("torch", "CharStorage", Global::Storage(DType::Int(1))),
    ("torch", "ByteStorage", Global::Storage(DType::Int(1))),
    ("torch", "BoolStorage", Global::Storage(DType::Int(1))),
];

impl Global {
    /// The global of that name, if it is one that state dicts need.
    pub fn find(module: &str, name: &str) -> Option<Global> {
        let known = GLOBALS.iter().find(|(m, n, _)| (*m, *n) == (module, name));
        known.map(|(_, _, global)| *global)
    }
}
