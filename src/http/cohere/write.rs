//! Serializes replies.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::read::Version;
use crate::embed::{Embedded, Embedding};
use crate::encoding::{Encoded, Encoder};

/// The embeddings of a request's texts, in each of the requested encodings.
#[derive(Serialize, ToSchema)]
#[schema(as = CohereEmbeddings)]
pub(in crate::http) struct EmbedByType<'e> {
    id: &'e str,
    /// From the name of an encoding to the vectors.
    #[schema(value_type = Object)]
    embeddings: ByType<'e>,
    texts: Vec<String>,
    meta: Meta,
    /// Only in the first version of the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_type: Option<&'static str>,
}

#[derive(Serialize)]
struct EmbedFloats<'e> {
    id: &'e str,
    embeddings: Vec<&'e [f32]>,
    texts: Vec<String>,
    meta: Meta,
    response_type: &'static str,
}

/// What was processed.
#[derive(Serialize, ToSchema)]
struct Meta {
    api_version: ApiVersion,
    billed_units: BilledUnits,
}

#[derive(Serialize, ToSchema)]
struct ApiVersion {
    version: &'static str,
}

#[derive(Serialize, ToSchema)]
struct BilledUnits {
    input_tokens: usize,
}

struct ByType<'e> {
    embeddings: &'e [Embedding],
    encoders: &'e [Encoder],
}

impl Serialize for ByType<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.encoders.len()))?;
        for encoder in self.encoders {
            let vectors = self.embeddings.iter().map(|embedding| encoder.encode(&embedding.values));
            map.serialize_entry(encoder.encoding.name(), &vectors.collect::<Vec<Encoded<'_>>>())?;
        }
        map.end()
    }
}

/// The reply to a request with these texts; without encodings, the vectors are plain lists.
pub(super) fn embedded(
    embedded: &Embedded,
    id: &str,
    texts: Vec<String>,
    encoders: Option<&[Encoder]>,
    version: Version,
) -> serde_json::Result<Vec<u8>> {
    let embeddings = embedded.embeddings.as_slice();
    let meta = Meta {
        api_version: ApiVersion { version: if version == Version::V1 { "1" } else { "2" } },
        billed_units: BilledUnits { input_tokens: embeddings.iter().map(|embedding| embedding.token_count).sum() },
    };
    match encoders {
        Some(encoders) => {
            let response_type = (version == Version::V1).then_some("embeddings_by_type");
            let embeddings = ByType { embeddings, encoders };
            serde_json::to_vec(&EmbedByType { id, embeddings, texts, meta, response_type })
        }
        None => {
            let embeddings = embeddings.iter().map(|embedding| embedding.values.as_slice()).collect();
            let response_type = "embeddings_floats";
            serde_json::to_vec(&EmbedFloats { id, embeddings, texts, meta, response_type })
        }
    }
}
