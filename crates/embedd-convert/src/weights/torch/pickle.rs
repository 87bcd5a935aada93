//! A reader of the pickles that `torch.save` writes. It is a stack machine without code: it builds tuples, lists, dicts
//! and descriptions of tensors, and fails at everything else.

use super::heap::{Global, Heap, Object, Storage, TensorView, Value};
use super::input::Input;
use super::{Failure, printable};

/// A tensor takes about 45.
const MAX_OPCODES: u32 = 1 << 21;
/// Entries of the memo are numbered from 0. A tensor takes about 9.
const MAX_MEMO: usize = 1 << 19;

/// A pickle's value, and what it refers to.
#[derive(Debug)]
pub(super) struct Unpickled<'b> {
    root: Value<'b>,
    heap: Heap<'b>,
    /// The length of the pickle.
    pub(super) bytes: usize,
}

/// The state between two opcodes.
struct Machine<'b> {
    input: Input<'b>,
    stack: Vec<Value<'b>>,
    /// The lengths of the stack at each mark.
    marks: Vec<usize>,
    memo: Vec<Option<Value<'b>>>,
    heap: Heap<'b>,
}

type Step<T> = Result<T, Failure>;

/// Reads the pickle at the start of `bytes`.
///
/// # Errors
/// [`Failure::Malformed`] or [`Failure::Forbidden`].
pub(super) fn load(bytes: &[u8]) -> Step<Unpickled<'_>> {
    let stack = Vec::new();
    let marks = Vec::new();
    let memo = Vec::new();
    let mut machine = Machine { input: Input::new(bytes), stack, marks, memo, heap: Heap::default() };
    for _ in 0..MAX_OPCODES {
        if let Some(root) = machine.step()? {
            return Ok(Unpickled { root, heap: machine.heap, bytes: machine.input.position() });
        }
    }
    Err(machine.malformed(&format!("has more than {MAX_OPCODES} opcodes")))
}

impl<'b> Unpickled<'b> {
    pub(super) fn root(&self) -> Value<'b> {
        self.root
    }

    pub(super) fn dict(&self) -> Option<&[(Value<'b>, Value<'b>)]> {
        self.heap.dict(self.root)
    }

    pub(super) fn list(&self) -> Option<&[Value<'b>]> {
        self.heap.sequence(self.root)
    }

    pub(super) fn tensor(&self, value: Value<'b>) -> Option<&TensorView<'b>> {
        self.heap.tensor(value)
    }

    /// The storages that the pickle refers to.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage<'b>> {
        self.heap.storages.values()
    }

    pub(super) fn storage(&self, key: &str) -> Option<&Storage<'b>> {
        self.heap.storages.get(key)
    }
}

impl<'b> Machine<'b> {
    /// Executes one opcode. Returns the pickle's value at its end.
    fn step(&mut self) -> Step<Option<Value<'b>>> {
        let opcode = self.input.byte()?;
        match opcode {
            b'.' => return Ok(Some(self.pop()?)),
            // PROTO and FRAME: nothing to do.
            0x80 => drop(self.input.take(1)?),
            0x95 => drop(self.input.take(8)?),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' | b'M' | b'J' | 0x8a | b'G' => self.number(opcode)?,
            b'X' | 0x8c | b'T' | b'U' => self.text(opcode)?,
            b'(' => self.marks.push(self.stack.len()),
            b')' | b'\x85'..=b'\x87' | b't' => self.tuple(opcode)?,
            b']' => self.push(Object::List(Vec::new()))?,
            b'}' => self.push(Object::Dict(Vec::new()))?,
            b'a' | b'e' => self.append(opcode)?,
            b's' | b'u' => self.set_items(opcode)?,
            b'q' | b'r' | 0x94 => self.put(opcode)?,
            b'h' | b'j' => self.get(opcode)?,
            b'c' | b'i' | 0x93 => self.global(opcode)?,
            b'Q' => self.persistent_id()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            _ => return Err(self.malformed(&format!("has opcode {opcode:#04x}, which torch.save does not write"))),
        }
        Ok(None)
    }

    fn number(&mut self, opcode: u8) -> Step<()> {
        let value = match opcode {
            b'K' => Value::Int(i64::from(self.input.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.input.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.input.array()?))),
            b'G' => {
                self.input.take(8)?;
                Value::Float
            }
            _ => {
                let length = usize::from(self.input.byte()?);
                long(self.input.take(length)?)
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Step<()> {
        let length = match opcode {
            b'X' | b'T' => u32::from_le_bytes(self.input.array()?) as usize,
            _ => usize::from(self.input.byte()?),
        };
        let text = self.input.take(length)?;
        let text = str::from_utf8(text).map_err(|_| self.malformed("has text that is not UTF-8"))?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn tuple(&mut self, opcode: u8) -> Step<()> {
        let items = match opcode {
            b')' => Vec::new(),
            b't' => self.pop_to_mark()?,
            _ => self.pop_many(usize::from(opcode - 0x84))?,
        };
        self.push(Object::Tuple(items))
    }

    fn append(&mut self, opcode: u8) -> Step<()> {
        let items = if opcode == b'e' { self.pop_to_mark()? } else { self.pop_many(1)? };
        match self.last_object()? {
            Object::List(list) => list.extend(items),
            _ => return Err(self.malformed("appends to something that is not a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, opcode: u8) -> Step<()> {
        let items = if opcode == b'u' { self.pop_to_mark()? } else { self.pop_many(2)? };
        let (pairs, rest) = items.as_chunks::<2>();
        match self.last_object()? {
            Object::Dict(dict) if rest.is_empty() => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return Err(self.malformed("sets items of something that is not a dict")),
        }
        Ok(())
    }

    fn put(&mut self, opcode: u8) -> Step<()> {
        let index = match opcode {
            b'q' => usize::from(self.input.byte()?),
            b'r' => u32::from_le_bytes(self.input.array()?) as usize,
            _ => self.memo.len(),
        };
        if index >= MAX_MEMO {
            return Err(self.malformed(&format!("memorizes more than {MAX_MEMO} values")));
        }
        let value = self.last()?;
        if index >= self.memo.len() {
            self.memo.resize(index + 1, None);
        }
        self.memo[index] = Some(value);
        Ok(())
    }

    fn get(&mut self, opcode: u8) -> Step<()> {
        let index = match opcode {
            b'h' => usize::from(self.input.byte()?),
            _ => u32::from_le_bytes(self.input.array()?) as usize,
        };
        match self.memo.get(index) {
            Some(&Some(value)) => self.stack.push(value),
            _ => return Err(self.malformed(&format!("reads value {index} of the memo, which is not set"))),
        }
        Ok(())
    }

    /// Fails at the first name that tensors do not need, whether or not it would be called.
    fn global(&mut self, opcode: u8) -> Step<()> {
        let (module, name) = if opcode == 0x93 {
            let names = self.pop_many(2)?;
            let [Value::Text(module), Value::Text(name)] = names[..] else {
                return Err(self.malformed("names a global by something that is not text"));
            };
            (module, name)
        } else {
            let module = self.input.line()?;
            (module, self.input.line()?)
        };
        // INST calls what it names; torch.save does not write it.
        match Global::named(module, name) {
            Some(global) if opcode != b'i' => self.stack.push(Value::Global(global)),
            _ => return Err(Failure::Forbidden(format!("{}.{}", printable(module), printable(name)))),
        }
        Ok(())
    }

    fn persistent_id(&mut self) -> Step<()> {
        let id = self.pop()?;
        let storage = self.heap.storage(id);
        let (whole, part) = storage.ok_or_else(|| self.malformed("has an invalid reference to a storage"))?;
        if *self.heap.storages.entry(whole.key).or_insert(whole) != whole {
            let key = printable(whole.key);
            return Err(self.malformed(&format!("describes storage {key} in two ways")));
        }
        self.push(Object::Storage(part))
    }

    /// Nothing is called: each function that [`Global`] allows has its own case here.
    fn reduce(&mut self) -> Step<()> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        let arguments = self.heap.tuple(arguments).unwrap_or_default();
        let object = match (function, arguments) {
            (Value::Global(Global::RebuildTensor), arguments) => {
                self.heap.view(arguments).map(|view| Object::Tensor(Box::new(view)))
            }
            (Value::Global(Global::RebuildParameter), &[tensor, ..]) if self.heap.tensor(tensor).is_some() => {
                self.stack.push(tensor);
                return Ok(());
            }
            (Value::Global(Global::Size), &[items]) if self.heap.tuple(items).is_some() => {
                self.stack.push(items);
                return Ok(());
            }
            (Value::Global(Global::OrderedDict), []) => Some(Object::Dict(Vec::new())),
            (Value::Global(Global::OrderedDict), &[pairs]) => self.pairs(pairs).map(Object::Dict),
            _ => None,
        };
        match object {
            Some(object) => self.push(object),
            None => Err(self.malformed("describes a tensor or a dict with unexpected arguments")),
        }
    }

    /// The items of a dict as Python 2 writes them: a list of pairs. The list is emptied, because copies of one list
    /// could take more memory than the pickle has bytes.
    fn pairs(&mut self, list: Value<'b>) -> Option<Vec<(Value<'b>, Value<'b>)>> {
        let Some(Object::List(list)) = self.heap.get_mut(list) else { return None };
        let list = std::mem::take(list);
        let pair = |pair| match *self.heap.sequence(pair)? {
            [key, value] => Some((key, value)),
            _ => None,
        };
        list.into_iter().map(pair).collect()
    }

    /// Attributes of dicts and tensors do not matter: those of a state dict are the versions of its modules.
    fn build(&mut self) -> Step<()> {
        self.pop()?;
        match self.last_object()? {
            Object::Dict(_) | Object::Tensor(_) => Ok(()),
            _ => Err(self.malformed("sets attributes of something that is not a dict or a tensor")),
        }
    }

    fn push(&mut self, object: Object<'b>) -> Step<()> {
        let value = self.heap.add(object)?;
        self.stack.push(value);
        Ok(())
    }

    fn last(&self) -> Step<Value<'b>> {
        self.above_mark(1)?;
        self.stack.last().copied().ok_or_else(|| self.malformed("takes a value from an empty stack"))
    }

    fn last_object(&mut self) -> Step<&mut Object<'b>> {
        let value = self.last()?;
        let wrong = self.malformed("changes something that is not a list or a dict");
        self.heap.get_mut(value).ok_or(wrong)
    }

    fn pop(&mut self) -> Step<Value<'b>> {
        let value = self.last()?;
        self.stack.pop();
        Ok(value)
    }

    fn pop_many(&mut self, count: usize) -> Step<Vec<Value<'b>>> {
        let start = self.above_mark(count)?;
        Ok(self.stack.split_off(start))
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Value<'b>>> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("ends a sequence without a start"))?;
        Ok(self.stack.split_off(mark))
    }

    /// Where the last `count` values start. They must be above the last mark.
    fn above_mark(&self, count: usize) -> Step<usize> {
        let mark = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= mark);
        start.ok_or_else(|| self.malformed("takes a value from an empty stack"))
    }

    fn malformed(&self, what: &str) -> Failure {
        self.input.malformed(what)
    }
}

/// A little-endian integer in two's complement.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > size_of::<i64>() {
        return Value::LongInt(bytes);
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut extended = [if negative { 0xff } else { 0 }; size_of::<i64>()];
    extended[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(extended))
}
