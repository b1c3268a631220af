//! A pickle reader for the opcodes of state dicts. It builds plain data; callables stay names.
//!
//! Objects live in one arena and refer to each other by index, so hostile nesting and cycles cost neither stack
//! nor unbounded memory: every entry of an object takes at least a byte of input, and objects are counted.

use std::collections::HashMap;

use super::object::{Global, Id, Object};

/// Arguments that `_rebuild_tensor_v2` takes at most.
const MAX_ARGUMENTS: usize = 7;

/// Objects, and entries of the stack and the memo, in all: some dozen for each tensor, and no network has 100,000.
const MOST: usize = 2_000_000;

/// A parsed pickle.
#[derive(Debug)]
pub struct Pickle<'a> {
    /// All objects.
    pub objects: Vec<Object<'a>>,
    /// The one that was pickled.
    pub root: Id,
    /// Bytes read, up to and with `STOP`.
    pub len: usize,
}

/// Reads one pickle from the start of `bytes`.
pub fn read(bytes: &[u8]) -> Result<Pickle<'_>, String> {
    let mut machine = Machine {
        input: Input { bytes, at: 0 },
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run()?;
    Ok(Pickle {
        objects: machine.objects,
        root,
        len: machine.input.at,
    })
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| {
            format!(
                "the pickle wants {len} bytes at offset {}, {} are left: the file is truncated or damaged; fetch it again",
                self.at,
                rest.len()
            )
        })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, String> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A length of 1, 4 or 8 bytes, then so many bytes.
    fn counted(&mut self, width: usize) -> Result<&'a [u8], String> {
        let mut length = [0; 8];
        length[..width].copy_from_slice(self.take(width)?);
        self.take(usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
        let line = self.take(end)?;
        self.take(1)?;
        text(line)
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| damaged("a string is not UTF-8"))
}

fn damaged(what: &str) -> String {
    format!("{what}: the file is damaged or no PyTorch checkpoint; fetch it again")
}

struct Machine<'a> {
    input: Input<'a>,
    objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    /// Stack heights at which `MARK` was read.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let at = self.input.at;
            let open = self.stack.len() + self.marks.len() + self.memo.len();
            if self.objects.len() + open > MOST {
                return Err(format!(
                    "the pickle makes more than {MOST} objects, which no state dict does; export a plain one: \
                     torch.save(model.state_dict(), ...)"
                ));
            }
            match self.input.u8()? {
                b'.' => return self.pop(),
                // PROTO and FRAME carry nothing that is needed.
                0x80 => drop(self.input.u8()?),
                0x95 => drop(self.input.take(8)?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.since_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' => self.push(Object::None),
                0x88 => self.push(Object::Bool(true)),
                0x89 => self.push(Object::Bool(false)),
                b'K' => {
                    let v = self.input.u8()?;
                    self.push(Object::Int(v.into()));
                }
                b'M' => {
                    let v = self.input.u16()?;
                    self.push(Object::Int(v.into()));
                }
                b'J' => {
                    let v = i32::from_le_bytes(self.input.array()?);
                    self.push(Object::Int(v.into()));
                }
                0x8a => self.long(1)?,
                0x8b => self.long(4)?,
                b'G' => {
                    let v = f64::from_be_bytes(self.input.array()?);
                    self.push(Object::Float(v));
                }
                0x8c => self.string(1)?,
                b'X' => self.string(4)?,
                0x8d => self.string(8)?,
                b'U' => self.old_string(1)?,
                b'T' => self.old_string(4)?,
                b'C' => self.bytes(1)?,
                b'B' => self.bytes(4)?,
                0x8e => self.bytes(8)?,
                b')' => self.push(Object::Tuple(Vec::new())),
                b']' => self.push(Object::List(Vec::new())),
                b'}' => self.push(Object::Dict(Vec::new())),
                // EMPTY_SET, ADDITEMS, FROZENSET: what is in them is no tensor.
                0x8f => self.push(Object::Other),
                0x90 => drop(self.since_mark()?),
                0x91 => {
                    self.since_mark()?;
                    self.push(Object::Other);
                }
                // BYTEARRAY8
                0x96 => self.bytes(8)?,
                b't' => {
                    let items = self.since_mark()?;
                    self.push(Object::Tuple(items));
                }
                b'l' => {
                    let items = self.since_mark()?;
                    self.push(Object::List(items));
                }
                b'd' => {
                    let items = self.since_mark()?;
                    let pairs = pairs(&items)?;
                    self.push(Object::Dict(pairs));
                }
                n @ 0x85..=0x87 => {
                    let items = self.pop_many(usize::from(n - 0x84))?;
                    self.push(Object::Tuple(items));
                }
                b'a' => {
                    let items = self.pop_many(1)?;
                    self.append(items)?;
                }
                b'e' => {
                    let items = self.since_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let items = self.pop_many(2)?;
                    self.set_items(&items)?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set_items(&items)?;
                }
                b'q' => {
                    let key = self.input.u8()?;
                    self.memoize(key.into())?;
                }
                b'r' => {
                    let key = self.input.u32()?;
                    self.memoize(key.into())?;
                }
                0x94 => self.memoize(self.memo.len() as u64)?,
                b'h' => {
                    let key = self.input.u8()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = self.input.u32()?;
                    self.recall(key.into())?;
                }
                b'c' => {
                    let (module, name) = (self.input.line()?, self.input.line()?);
                    self.global(module, name)?;
                }
                0x93 => self.stack_global()?,
                b'Q' => {
                    let id = self.pop()?;
                    self.push(Object::Persistent(id));
                }
                // REDUCE and NEWOBJ: what is made is the same here.
                b'R' | 0x81 => self.reduce()?,
                b'b' => self.build()?,
                opcode => {
                    return Err(format!(
                        "pickle opcode 0x{opcode:02x} at offset {at} is not one that state dicts use; \
                         export a plain state dict: torch.save(model.state_dict(), ...)"
                    ));
                }
            }
        }
    }

    fn push(&mut self, object: Object<'a>) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
    }

    /// Lowest height of the stack that may be popped to: the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, String> {
        let above = self.stack.get(self.floor()..).unwrap_or_default();
        above
            .last()
            .copied()
            .ok_or_else(|| damaged("the pickle's stack runs empty"))
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        Ok(items)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| damaged("the pickle's mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn memoize(&mut self, key: u64) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<(), String> {
        let id = self
            .memo
            .get(&key)
            .ok_or_else(|| damaged("the pickle recalls what it never kept"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn long(&mut self, width: usize) -> Result<(), String> {
        let bytes = self.input.counted(width)?;
        if bytes.len() > 8 {
            self.push(Object::BigInt(bytes));
            return Ok(());
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut value = [if negative { 0xff } else { 0 }; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        self.push(Object::Int(i64::from_le_bytes(value)));
        Ok(())
    }

    fn string(&mut self, width: usize) -> Result<(), String> {
        let string = text(self.input.counted(width)?)?;
        self.push(Object::Str(string));
        Ok(())
    }

    /// A string of Python 2: text, or any bytes.
    fn old_string(&mut self, width: usize) -> Result<(), String> {
        let bytes = self.input.counted(width)?;
        self.push(match std::str::from_utf8(bytes) {
            Ok(text) => Object::Str(text),
            Err(_) => Object::Bytes(bytes),
        });
        Ok(())
    }

    fn bytes(&mut self, width: usize) -> Result<(), String> {
        let bytes = self.input.counted(width)?;
        self.push(Object::Bytes(bytes));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.objects[list] {
            Object::List(list) => list.extend(items),
            other => return Err(damaged(&format!("the pickle appends to {}", other.kind()))),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let dict = self.top()?;
        match &mut self.objects[dict] {
            Object::Dict(dict) => dict.extend(pairs(items)?),
            other => {
                return Err(damaged(&format!(
                    "the pickle sets items of {}",
                    other.kind()
                )));
            }
        }
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), String> {
        let names = self.pop_many(2)?;
        match (&self.objects[names[0]], &self.objects[names[1]]) {
            (&Object::Str(module), &Object::Str(name)) => self.global(module, name),
            _ => Err(damaged(
                "the pickle names a global by something else than strings",
            )),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let Some(global) = Global::find(module, name) else {
            return Err(format!(
                "the pickle asks for {:.100}.{:.100}, which is no tensor; nothing was run; \
                 export a plain state dict: torch.save(model.state_dict(), ...)",
                module.escape_debug().to_string(),
                name.escape_debug().to_string(),
            ));
        };
        self.push(Object::Global(global));
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), String> {
        let call = self.pop_many(2)?;
        let (Object::Global(callable), Object::Tuple(arguments)) =
            (&self.objects[call[0]], &self.objects[call[1]])
        else {
            return Err(damaged("the pickle calls something that is no function"));
        };
        // No function here takes more; copying a longer tuple at every call could cost more than the file is long.
        let arguments = arguments
            .get(..arguments.len().min(MAX_ARGUMENTS))
            .unwrap_or_default()
            .to_vec();
        let made = self.call(*callable, arguments)?;
        self.stack.push(made);
        Ok(())
    }

    /// The result of a call, as an object.
    fn call(&mut self, callable: Global, arguments: Vec<Id>) -> Result<Id, String> {
        let object = match (callable, arguments.as_slice()) {
            (Global::Dict, []) => Object::Dict(Vec::new()),
            (Global::RebuildTensor, _) => Object::Tensor(arguments),
            (Global::Tensor, []) => Object::Tensor(Vec::new()),
            (Global::RebuildParameter, &[data, ..]) => return Ok(data),
            (Global::RebuildFromType, &[function, _, inner, ..]) => {
                // One level: what is rebuilt so is a plain tensor or parameter of a subclass.
                match (&self.objects[function], &self.objects[inner]) {
                    (
                        Object::Global(f @ (Global::RebuildTensor | Global::RebuildParameter)),
                        Object::Tuple(inner),
                    ) => {
                        let kept = inner.get(..inner.len().min(MAX_ARGUMENTS));
                        return self.call(*f, kept.unwrap_or_default().to_vec());
                    }
                    _ => return Err(damaged("a tensor is rebuilt in an unknown way")),
                }
            }
            (Global::Other, _) => Object::Other,
            (callable, arguments) => {
                return Err(format!(
                    "the pickle calls {callable:?} with {} arguments; \
                     export a plain state dict: torch.save(model.state_dict(), ...)",
                    arguments.len()
                ));
            }
        };
        self.objects.push(object);
        Ok(self.objects.len() - 1)
    }

    /// `BUILD` sets attributes, which carry no tensors (a state dict's `_metadata`); or it sets a tensor of the oldest
    /// kind, made empty before, to its storage.
    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        let target = self.top()?;
        match (&self.objects[target], &self.objects[state]) {
            (Object::Tensor(made), Object::Tuple(state)) if made.is_empty() => {
                let kept = state.get(..state.len().min(MAX_ARGUMENTS));
                self.objects[target] = Object::Tensor(kept.unwrap_or_default().to_vec());
                Ok(())
            }
            (Object::Dict(_) | Object::Tensor(_) | Object::Persistent(_) | Object::Other, _) => {
                Ok(())
            }
            (other, _) => Err(damaged(&format!(
                "the pickle sets attributes of {}",
                other.kind()
            ))),
        }
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    match rest {
        [] => Ok(pairs.iter().map(|&[k, v]| (k, v)).collect()),
        _ => Err(damaged("a dict in the pickle has a key without a value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_nesting_costs_no_stack() {
        let mut bytes = b")".to_vec();
        bytes.extend(std::iter::repeat_n(0x85, 1 << 20));
        bytes.push(b'.');
        assert_eq!(read(&bytes).unwrap().objects.len(), (1 << 20) + 1);
    }

    #[test]
    fn a_list_may_hold_itself() {
        let pickle = read(b"]q\x00h\x00a.").unwrap();
        assert_eq!(pickle.objects[pickle.root], Object::List(vec![pickle.root]));
    }

    #[test]
    fn integers_are_little_endian_twos_complement() {
        let value = |bytes: &'static [u8]| read(bytes).unwrap().objects[0].clone();
        assert_eq!(value(b"\x8a\x00."), Object::Int(0));
        assert_eq!(value(b"\x8a\x01\xff."), Object::Int(-1));
        assert_eq!(value(b"\x8a\x02\xff\x00."), Object::Int(255));
        assert_eq!(value(b"J\xfe\xff\xff\xff."), Object::Int(-2));
        assert_eq!(value(b"M\x01\x02."), Object::Int(513));
    }

    #[test]
    fn popping_below_a_mark_is_an_error() {
        assert!(read(b"N(0.").is_err());
        assert!(read(b"0.").is_err());
        assert!(read(b"t.").is_err());
        assert!(read(b"}(Nu.").is_err());
    }
}
