//! The values that a pickle of tensors can hold.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::Failure;

/// A tensor takes about ten. Objects are only freed together, so that a deeply nested one is not freed recursively.
const MAX_OBJECTS: usize = 1 << 19;
const MAX_DIMENSIONS: usize = 8;

/// A value on the stack, in the memo or in an object. Cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'b> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, as little-endian bytes.
    LongInt(&'b [u8]),
    /// Floating-point numbers do not describe tensors, but may be stored next to them.
    Float,
    Text(&'b str),
    Global(Global),
    Object(ObjectId),
}

/// A function or class that a pickle of tensors may name. None of them is executed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    /// The first four arguments are storage, offset, shape and strides; others do not matter.
    RebuildTensor,
    /// The first argument is the tensor; others do not matter.
    RebuildParameter,
    OrderedDict,
    Size,
    Storage(Dtype),
}

/// The position of an object in the heap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ObjectId(u32);

#[derive(Debug)]
pub(super) enum Object<'b> {
    Tuple(Vec<Value<'b>>),
    List(Vec<Value<'b>>),
    Dict(Vec<(Value<'b>, Value<'b>)>),
    Storage(Storage<'b>),
    Tensor(Box<TensorView<'b>>),
}

/// A part of a file's storage, which is a one-dimensional array.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Storage<'b> {
    pub(super) key: &'b str,
    pub(super) dtype: Dtype,
    /// Elements of the file's storage before this one: 0 unless it is a part.
    pub(super) first: u64,
    pub(super) elements: u64,
}

/// A tensor: a view of a storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorView<'b> {
    pub(super) storage: Storage<'b>,
    /// Elements of the storage before the first one of the tensor.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Owns all objects of a pickle.
#[derive(Debug, Default)]
pub(super) struct Heap<'b> {
    objects: Vec<Object<'b>>,
    /// The storages that the pickle refers to, by key.
    pub(super) storages: BTreeMap<&'b str, Storage<'b>>,
}

impl Storage<'_> {
    /// Bytes of an element.
    pub(super) fn width(&self) -> u64 {
        self.dtype.bitsize() as u64 / 8
    }
}

impl Global {
    /// `None` for everything that is not needed for tensors.
    pub(super) fn named(module: &str, name: &str) -> Option<Self> {
        let global = match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Self::RebuildParameter,
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch", storage) => Self::Storage(dtype(storage)?),
            _ => return None,
        };
        Some(global)
    }
}

fn dtype(storage: &str) -> Option<Dtype> {
    let dtype = match storage {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        _ => return None,
    };
    Some(dtype)
}

impl<'b> Value<'b> {
    pub(super) fn text(self) -> Option<&'b str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A count or an offset.
    fn count(self) -> Option<u64> {
        match self {
            Self::Int(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }
}

impl<'b> Heap<'b> {
    pub(super) fn add(&mut self, object: Object<'b>) -> Result<Value<'b>, Failure> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(Failure::Malformed(format!("its pickle has more than {MAX_OBJECTS} objects")));
        }
        // Less than 2^32, checked above.
        let id = ObjectId(self.objects.len() as u32);
        self.objects.push(object);
        Ok(Value::Object(id))
    }

    pub(super) fn get(&self, value: Value<'b>) -> Option<&Object<'b>> {
        let Value::Object(ObjectId(id)) = value else { return None };
        self.objects.get(id as usize)
    }

    pub(super) fn get_mut(&mut self, value: Value<'b>) -> Option<&mut Object<'b>> {
        let Value::Object(ObjectId(id)) = value else { return None };
        self.objects.get_mut(id as usize)
    }

    pub(super) fn tuple(&self, value: Value<'b>) -> Option<&[Value<'b>]> {
        match self.get(value) {
            Some(Object::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    pub(super) fn sequence(&self, value: Value<'b>) -> Option<&[Value<'b>]> {
        match self.get(value) {
            Some(Object::Tuple(items) | Object::List(items)) => Some(items),
            _ => None,
        }
    }

    pub(super) fn dict(&self, value: Value<'b>) -> Option<&[(Value<'b>, Value<'b>)]> {
        match self.get(value) {
            Some(Object::Dict(items)) => Some(items),
            _ => None,
        }
    }

    pub(super) fn tensor(&self, value: Value<'b>) -> Option<&TensorView<'b>> {
        match self.get(value) {
            Some(Object::Tensor(view)) => Some(view),
            _ => None,
        }
    }

    /// The storage of the file that a persistent id describes, and the part of it that is meant. The id is
    /// `("storage", type, key, device, elements)`. The legacy format adds `None`, or `(key, first, elements)` for a part.
    pub(super) fn storage(&self, id: Value<'b>) -> Option<(Storage<'b>, Storage<'b>)> {
        let (&description, rest) = self.tuple(id)?.split_first_chunk::<5>()?;
        let [Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key), Value::Text(_), elements] =
            description
        else {
            return None;
        };
        let whole = Storage { key, dtype, first: 0, elements: elements.count()? };
        let part = match *rest {
            [] | [Value::None] => whole,
            [part] => self.part(whole, part)?,
            _ => return None,
        };
        Some((whole, part))
    }

    fn part(&self, whole: Storage<'b>, part: Value<'b>) -> Option<Storage<'b>> {
        let [_, first, elements] = *self.tuple(part)? else { return None };
        let first = first.count()?;
        let elements = elements.count()?;
        let end = first.checked_add(elements)?;
        (end <= whole.elements).then_some(Storage { first, elements, ..whole })
    }

    /// The tensor that is described by the first arguments of `torch._utils._rebuild_tensor_v2`.
    pub(super) fn view(&self, arguments: &[Value<'b>]) -> Option<TensorView<'b>> {
        let [storage, offset, shape, strides, ..] = *arguments else { return None };
        let Some(&Object::Storage(storage)) = self.get(storage) else { return None };
        let offset = offset.count()?;
        let shape = self.counts(shape)?;
        let strides = self.counts(strides)?;
        Some(TensorView { storage, offset, shape, strides })
    }

    fn counts(&self, value: Value<'b>) -> Option<Vec<usize>> {
        let items = self.sequence(value)?;
        if items.len() > MAX_DIMENSIONS {
            return None;
        }
        items.iter().map(|item| usize::try_from(item.count()?).ok()).collect()
    }
}
