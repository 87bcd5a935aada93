//! The tensors: their names, and the two forms in which elements travel.

use crate::request::{Limits, TextField, Violations};
use embedd_proto::open_inference::InferTensorContents;
use embedd_proto::open_inference::model_infer_request::InferInputTensor;

/// The input: BYTES, `[n]` or `[n, 1]`.
pub(super) const TEXT: TextField = TextField::List("text");
/// The output: FP32, `[n, dimensions]`.
pub(super) const EMBEDDING: &str = "embedding";
/// The datatype of a text.
pub(super) const BYTES: &str = "BYTES";
/// The datatype of a component.
pub(super) const FP32: &str = "FP32";

const RAW: &str = "raw_input_contents";
const CONTENTS: &str = "inputs[0].contents";
/// Bytes of the number in front of a raw element that says how long it is.
const LENGTH_BYTES: usize = 4;

/// Where the elements of a request's tensor were, and where those of its reply go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In the tensor's own field for its datatype.
    Typed,
    /// Beside the tensors, as bytes.
    Raw,
}

/// The texts of the input, the request's only one, and the form in which they came. There is at least one text, and no
/// more than the limits allow.
pub(super) fn read(
    input: InferInputTensor,
    mut raw: Vec<Vec<u8>>,
    limits: &Limits,
    violations: &mut Violations,
) -> Option<(Vec<String>, Form)> {
    if input.datatype != BYTES {
        violations.add("inputs[0].datatype", format!("is not {BYTES}, which texts are"));
    }
    let count = count(&input.shape, limits, violations);
    let typed = input.contents.filter(|contents| *contents != InferTensorContents::default());
    let (elements, form) = match (typed, raw.pop()) {
        (Some(_), Some(_)) => {
            violations.add(RAW, format!("is there beside {CONTENTS}; send the elements in one of them"));
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

/// How many texts the shape says that there are.
fn count(shape: &[i64], limits: &Limits, violations: &mut Violations) -> Option<usize> {
    let most = limits.max_texts.get();
    let count = match shape {
        &[count] | &[count, 1] => usize::try_from(count).ok().filter(|count| (1..=most).contains(count)),
        _ => None,
    };
    if count.is_none() {
        let problem = format!("is {}; give [n] or [n, 1], with n texts, 1 to {most}", shown(shape));
        violations.add("inputs[0].shape", problem);
    }
    count
}

/// As much of a shape as tells which one is meant.
fn shown(shape: &[i64]) -> String {
    match shape.get(..8) {
        Some(beginning) if shape.len() > 8 => format!("of {} dimensions, {beginning:?} ...", shape.len()),
        _ => format!("{shape:?}"),
    }
}

/// The elements of the datatype BYTES, where there are none of another.
fn bytes_only(mut contents: InferTensorContents, violations: &mut Violations) -> Option<Vec<Vec<u8>>> {
    let elements = std::mem::take(&mut contents.bytes_contents);
    if contents != InferTensorContents::default() {
        violations.add(CONTENTS, format!("has elements beside bytes_contents; those of {BYTES} are there"));
        return None;
    }
    Some(elements)
}

/// So many elements, or fewer where there are no more: each is its length and its bytes.
fn split(mut raw: &[u8], count: usize, violations: &mut Violations) -> Option<Vec<Vec<u8>>> {
    let (whole, mut elements) = (raw.len(), Vec::with_capacity(count));
    let mut broken = |left: usize, problem: &str| {
        let at = whole - left;
        violations.add(format!("{RAW}[0]"), format!("{problem} at byte {at} of {whole}"));
        None
    };
    while !raw.is_empty() {
        if elements.len() == count {
            return broken(raw.len(), &format!("has more than the shape's {count} elements: there is another one"));
        }
        let Some((length, rest)) = raw.split_first_chunk::<LENGTH_BYTES>() else {
            return broken(raw.len(), "ends within a length of 4 bytes");
        };
        let length = u32::from_le_bytes(*length);
        let element = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
        let Some((element, rest)) = element else {
            return broken(raw.len(), &format!("ends within an element of {length} bytes"));
        };
        elements.push(element.to_vec());
        raw = rest;
    }
    Some(elements)
}

/// Tells the first that is none.
fn texts(elements: Vec<Vec<u8>>, violations: &mut Violations) -> Option<Vec<String>> {
    let texts =
        elements.into_iter().enumerate().map(|(index, element)| String::from_utf8(element).map_err(|e| (index, e)));
    match texts.collect() {
        Ok(texts) => Some(texts),
        Err((index, error)) => {
            let at = error.utf8_error().valid_up_to();
            violations.add(TEXT.one(index), format!("is not UTF-8, from byte {at} on"));
            None
        }
    }
}
