//! Reads bodies as the APIs do, for `crate::fuzzing`.

use axum::http::StatusCode;

use super::api::refusal::Refusal;
use super::cohere::read::Version;
use super::{cohere, open_inference, openai, tei};
use crate::embed::ModelInfo;
use crate::request::{EmbedRequest, Limits};

/// What each API makes of the body of a request: a request for embeddings, if it is one, or the status of an error.
pub(crate) fn read_body(
    body: &[u8],
    model: &ModelInfo,
    limits: &Limits,
) -> Vec<Result<Option<EmbedRequest>, StatusCode>> {
    let embeds = |request: Result<EmbedRequest, Refusal>| request.map(Some).map_err(|refusal| refusal.status);
    let others = |read: Result<(), Refusal>| read.map(|()| None).map_err(|refusal| refusal.status);
    let infer = |json_length| open_inference::read::infer(body, json_length, model, limits).map(|call| call.request);
    vec![
        embeds(openai::read::embeddings(body, model, limits).map(|call| call.request)),
        embeds(tei::read::embed(body, model, limits).map(|call| call.request)),
        embeds(tei::read::similarity(body, model, limits)),
        others(tei::read::is_similarity(body).map(|_| ())),
        others(tei::read::tokenize(body, limits).map(|_| ())),
        others(tei::read::decode(body, limits).map(|_| ())),
        embeds(cohere::read::embed(body, Version::V1, model, limits).map(|call| call.request)),
        embeds(cohere::read::embed(body, Version::V2, model, limits).map(|call| call.request)),
        embeds(infer(None)),
        embeds(infer(Some(body.len() / 2))),
        embeds(infer(Some(body.len()))),
    ]
}
