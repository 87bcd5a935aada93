//! The reference set: texts, and what PyTorch makes of them.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use super::models::Model;

pub(crate) struct Reference {
    pub(crate) texts: Vec<Text>,
}

pub(crate) struct Text {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) embedding: Vec<f32>,
    pub(crate) token_count: u32,
}

#[derive(serde::Deserialize)]
struct Line {
    id: String,
    text: String,
}

impl Reference {
    pub(crate) fn load(model: Model) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference");
        let lines = fs::read_to_string(folder.join("texts.jsonl")).expect("the texts");
        let name = model.id().rsplit('/').next().expect("a name");
        let bytes = fs::read(folder.join(format!("{name}.safetensors"))).expect("the embeddings");
        let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let embeddings = tensors.tensor("embeddings").expect("embeddings");
        let counts = tensors.tensor("token_counts").expect("token counts");
        let rows = embeddings.data().chunks_exact(4 * model.dimension()).map(floats);
        let counts = counts.data().chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("8 bytes")));
        let texts: Vec<Text> = lines
            .lines()
            .zip(rows.zip(counts))
            .map(|(line, (embedding, count))| {
                let Line { id, text } = serde_json::from_str(line).expect("a text");
                Text { id, text, embedding, token_count: u32::try_from(count).expect("a count") }
            })
            .collect();
        assert_eq!(texts.len(), 253, "the whole reference set");
        Self { texts }
    }

    pub(crate) fn find(&self, id: &str) -> &Text {
        self.texts.iter().find(|text| text.id == id).expect("a text of the reference set")
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("4 bytes"))).collect()
}
