//! The tensors: their names, and the two forms in which their elements are sent.

use crate::request::{Limits, TextField, Violations};
use embedd_proto::open_inference::InferTensorContents;
use embedd_proto::open_inference::model_infer_request::InferInputTensor;

/// The input: BYTES, `[n]` or `[n, 1]`.
pub(crate) const TEXT: TextField = TextField::List("text");
/// The datatype of a text.
pub(super) const BYTES: &str = "BYTES";

const RAW: &str = "raw_input_contents";
const CONTENTS: &str = "inputs[0].contents";
/// The size of the length prefix of each raw element, in bytes.
const LENGTH_BYTES: usize = 4;

/// An output of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// The vectors: FP32, `[n, dimensions]`, unless another encoding is requested.
    Embedding,
    /// The same, by the name in NVIDIA's NIM.
    Embeddings,
    /// The tokens of each text: INT32, `[n]`.
    TokenCount,
}

impl Output {
    pub(super) const ALL: [Self; 3] = [Self::Embedding, Self::Embeddings, Self::TokenCount];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Embeddings => "embeddings",
            Self::TokenCount => "token_count",
        }
    }
}

/// Where a request carries the elements of its tensor. The reply uses the same form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In the tensor, in the field for its datatype.
    Typed,
    /// Outside the tensor, as bytes.
    Raw,
}

/// The texts of the only input, and their form. There is at least one text, and no more than the limits allow.
pub(super) fn read(
    input: InferInputTensor,
    mut raw: Vec<Vec<u8>>,
    limits: &Limits,
    violations: &mut Violations,
) -> Option<(Vec<String>, Form)> {
    if input.datatype != BYTES {
        violations.add("inputs[0].datatype", format!("must be {BYTES}, the datatype of texts"));
    }
    let count = count(&input.shape, limits, violations);
    let typed = input.contents.filter(|contents| *contents != InferTensorContents::default());
    let (elements, form) = match (typed, raw.pop()) {
        (Some(_), Some(_)) => {
            violations.add(RAW, format!("is set together with {CONTENTS}; send the elements in one of them"));
            return None;
        }
        (None, Some(_)) if !raw.is_empty() => {
            violations.add(RAW, format!("has {} tensors; `inputs` has 1", raw.len() + 1));
            return None;
        }
        (None, Some(raw)) => (split(&raw, count?, violations)?, Form::Raw),
        (typed, None) => (bytes_only(typed.unwrap_or_default(), violations)?, Form::Typed),
    };
    if elements.len() != count? {
        violations.add("inputs[0].shape", format!("is {:?}; elements sent: {}", input.shape, elements.len()));
        return None;
    }
    texts(elements, violations).map(|texts| (texts, form))
}

/// The number of texts according to the shape.
fn count(shape: &[i64], limits: &Limits, violations: &mut Violations) -> Option<usize> {
    let max = limits.max_texts.get();
    let count = match shape {
        &[count] | &[count, 1] => usize::try_from(count).ok().filter(|count| (1..=max).contains(count)),
        _ => None,
    };
    if count.is_none() {
        let problem = format!("is {}; send [n] or [n, 1] for n texts, with n from 1 to {max}", shown(shape));
        violations.add("inputs[0].shape", problem);
    }
    count
}

/// The shape for an error message, cut off if it is long.
fn shown(shape: &[i64]) -> String {
    match shape.get(..8) {
        Some(beginning) if shape.len() > 8 => format!("{beginning:?}... ({} dimensions)", shape.len()),
        _ => format!("{shape:?}"),
    }
}

/// The elements of the datatype BYTES; elements of other datatypes are rejected.
fn bytes_only(mut contents: InferTensorContents, violations: &mut Violations) -> Option<Vec<Vec<u8>>> {
    let elements = std::mem::take(&mut contents.bytes_contents);
    if contents != InferTensorContents::default() {
        violations.add(CONTENTS, format!("has elements that are not {BYTES}; send the texts in bytes_contents"));
        return None;
    }
    Some(elements)
}

/// Splits raw contents into at most `count` elements, each stored as its length followed by its bytes.
fn split(mut raw: &[u8], count: usize, violations: &mut Violations) -> Option<Vec<Vec<u8>>> {
    let whole = raw.len();
    // The shape may announce more elements than were sent.
    let mut elements = Vec::with_capacity(count.min(raw.len() / LENGTH_BYTES));
    let mut reject = |left: usize, problem: &str| {
        let at = whole - left;
        violations.add(format!("{RAW}[0]"), format!("{problem} at byte {at} of {whole}"));
        None
    };
    while !raw.is_empty() {
        if elements.len() == count {
            return reject(raw.len(), &format!("has more elements than the shape's {count}: another one begins"));
        }
        let Some((length, rest)) = raw.split_first_chunk::<LENGTH_BYTES>() else {
            return reject(raw.len(), "ends inside the 4-byte length of an element");
        };
        let length = u32::from_le_bytes(*length);
        let element = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
        let Some((element, rest)) = element else {
            return reject(raw.len(), &format!("ends inside an element of {length} bytes"));
        };
        elements.push(element.to_vec());
        raw = rest;
    }
    Some(elements)
}

/// Reports only the first element that is not a text.
fn texts(elements: Vec<Vec<u8>>, violations: &mut Violations) -> Option<Vec<String>> {
    let texts =
        elements.into_iter().enumerate().map(|(index, element)| String::from_utf8(element).map_err(|e| (index, e)));
    match texts.collect() {
        Ok(texts) => Some(texts),
        Err((index, error)) => {
            let at = error.utf8_error().valid_up_to();
            violations.add(TEXT.one(index), format!("is not valid UTF-8 from byte {at}"));
            None
        }
    }
}
