//! Validates admin requests.

use tonic::Status;

use crate::grpc::status;
use crate::model_slot::Served;
use crate::request::Violations;
use embedd_model::reference::ReferenceText;
use embedd_proto as proto;

/// The maximum number of pairs in one request: this many fill a message of 4 MiB, the maximum size.
const MAX_PAIRS: usize = 1000;

/// The pairs, with vectors of the model's dimension, and the threshold.
pub(super) fn pairs(request: proto::ValidateRequest, served: &Served) -> Result<(Vec<ReferenceText>, f64), Status> {
    let mut violations = Violations::default();
    let threshold = request.min_cosine.unwrap_or_else(|| served.threshold());
    if !(-1.0..=1.0).contains(&threshold) {
        violations.add("min_cosine", format!("is {threshold}; a cosine is between -1 and 1"));
    }
    if request.pairs.len() > MAX_PAIRS {
        violations.add("pairs", format!("has {} pairs; send at most {MAX_PAIRS}", request.pairs.len()));
        return Err(status::invalid(&violations));
    }
    let limits = served.embedder.limits();
    for (index, pair) in request.pairs.iter().enumerate() {
        if pair.text.len() > limits.max_text_bytes {
            let bytes = pair.text.len();
            let max = limits.max_text_bytes;
            violations.add(format!("pairs[{index}].text"), format!("has {bytes} bytes; the maximum is {max}"));
        }
        if let Some(problem) = vector_problem(&pair.embedding, limits.dimension) {
            violations.add(format!("pairs[{index}].embedding"), problem);
        }
    }
    if !violations.is_empty() {
        return Err(status::invalid(&violations));
    }
    Ok((request.pairs.into_iter().map(reference).collect(), threshold))
}

/// Why the vector has no cosine to one of the model's vectors.
fn vector_problem(embedding: &[f32], dimension: usize) -> Option<String> {
    if embedding.len() != dimension {
        return Some(format!("has {} values; the model's vectors have {dimension}", embedding.len()));
    }
    if embedding.iter().any(|value| !value.is_finite()) {
        return Some("has a value that is not finite".to_owned());
    }
    embedding.iter().all(|&value| value == 0.0).then(|| "is zero; its cosine to any vector is undefined".to_owned())
}

fn reference(pair: proto::ReferencePair) -> ReferenceText {
    ReferenceText { id: String::new(), text: pair.text, embedding: pair.embedding, token_count: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_that_has_no_cosine_is_rejected_with_the_reason() {
        assert_eq!(vector_problem(&[0.5, 0.0], 2), None);
        for (vector, part) in [
            (&[0.5][..], "has 1 values; the model's vectors have 2"),
            (&[0.5, f32::NAN], "not finite"),
            (&[f32::INFINITY, 0.0], "not finite"),
            (&[0.0, -0.0], "is zero"),
        ] {
            let problem = vector_problem(vector, 2).expect("a problem");
            assert!(problem.contains(part), "{problem}");
        }
    }
}
