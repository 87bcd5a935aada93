//! Functions that must accept any bytes. `fuzz/` runs them under libFuzzer, and the tests below with mutations of valid
//! inputs.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use embedd_model::bundle::{Pooling, Variant};
use embedd_model::tokenize::Truncation;
use embedd_model::{PromptChoice, Prompts};

use crate::config::{Configuration, Sources};
use crate::embed::ModelInfo;
use crate::model_names::ModelNames;
use crate::request::{EmbedRequest, Input, Limits};
use crate::{http, open_inference};

/// Small, so that inputs reach them.
const LIMITS: Limits = Limits {
    max_texts: NonZeroUsize::new(4).expect("not zero"),
    max_text_bytes: 64,
    truncates_any_size: false,
    dimension: 384,
};
/// What every client can receive as a gRPC message.
const MAX_ERROR_BYTES: usize = 8192;

/// The body of a request to one of the HTTP APIs. If it is accepted, it respects the limits; if not, it is the caller's
/// fault.
pub fn http_body(bytes: &[u8]) {
    for read in http::read_body(bytes, &model(), &LIMITS) {
        match read {
            Ok(request) => request.iter().for_each(check_limits),
            Err(status) => assert!(status.is_client_error(), "{status}"),
        }
    }
}

/// A `ModelInferRequest`. If it is accepted, it respects the limits.
pub fn tensors(bytes: &[u8]) {
    let Ok(message) = embedd_proto::codec::decode(bytes) else { return };
    match open_inference::read_tensors(message, Truncation::End, &LIMITS) {
        Ok(request) => check_limits(&request),
        Err(error) => assert!(error.len() < MAX_ERROR_BYTES, "{} bytes", error.len()),
    }
}

/// A settings file. If it is accepted, the settings are the same after they are printed and read again.
pub fn settings_file(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match resolve(text) {
        Ok(configuration) => {
            let printed = configuration.to_toml();
            let again = resolve(&printed).map_err(|errors| format!("{errors}\n{printed}"));
            assert_eq!(again.map(|again| again.settings), Ok(configuration.settings));
        }
        Err(errors) => assert!(!errors.mistakes().is_empty()),
    }
}

fn resolve(text: &str) -> Result<Configuration, crate::config::ConfigErrors> {
    let file = Some((PathBuf::from("embedd.toml"), text.to_owned()));
    Configuration::resolve(&Sources { file, ..Sources::default() })
}

fn check_limits(request: &EmbedRequest) {
    assert!((1..=LIMITS.max_texts.get()).contains(&request.inputs().len()));
    let length = |input: &Input| match input {
        Input::Text(text) => text.len(),
        Input::TokenIds(ids) => ids.len(),
    };
    assert!(request.inputs().iter().all(|input| length(input) <= LIMITS.max_text_bytes));
    assert!((1..=LIMITS.dimension).contains(&request.dimensions()));
}

pub(crate) fn model() -> ModelInfo {
    ModelInfo {
        names: ModelNames::of("owner/model"),
        fingerprint: String::new(),
        revision: String::new(),
        variant: Variant::Native,
        gpu: None,
        instruction_set: String::new(),
        quantization: String::new(),
        accuracy: None,
        pooling: Pooling::mean(),
        default_truncation: Truncation::End,
        prompts: Prompts::default(),
        own_default_prompt: PromptChoice::None,
        ranges: None,
        runtime_version: String::new(),
        sessions: 1,
        threads: 1,
    }
}

#[cfg(test)]
mod tests;
