//! BERT (Devlin et al. 2018): MiniLM, bge, e5, gte and many others.

use super::{Encoder, EncoderError, Layer, Positions, Reader};
use crate::source::Source;

pub(super) fn describe<'w>(source: &Source, reader: &Reader<'_, 'w>) -> Result<Encoder<'w>, EncoderError> {
    let config = &source.config;
    let hidden = config.hidden_size;
    let inner = config.intermediate_size;
    let layer = |index: usize| -> Result<Layer<'w>, EncoderError> {
        let at = |part: &str| format!("encoder.layer.{index}.{part}");
        Ok(Layer {
            query: reader.linear(&at("attention.self.query"), hidden, hidden)?,
            key: reader.linear(&at("attention.self.key"), hidden, hidden)?,
            value: reader.linear(&at("attention.self.value"), hidden, hidden)?,
            attention_output: reader.linear(&at("attention.output.dense"), hidden, hidden)?,
            attention_norm: reader.layer_norm(&at("attention.output.LayerNorm"))?,
            intermediate: reader.linear(&at("intermediate.dense"), inner, hidden)?,
            output: reader.linear(&at("output.dense"), hidden, inner)?,
            output_norm: reader.layer_norm(&at("output.LayerNorm"))?,
        })
    };
    let types_shape = [config.type_vocab_size, hidden];
    Ok(Encoder {
        architecture: "bert",
        hidden_size: hidden,
        heads: config.num_attention_heads,
        position_limit: config.max_position_embeddings,
        layer_norm_eps: config.layer_norm_eps,
        word_embeddings: reader.word_embeddings()?,
        positions: Positions::Sequential {
            table: reader.position_embeddings()?,
            token_types: reader.tensor(
                "embeddings.token_type_embeddings.weight",
                &types_shape,
                "type_vocab_size and hidden_size",
            )?,
        },
        embedding_norm: reader.layer_norm("embeddings.LayerNorm")?,
        relative_attention: None,
        layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        pooling: source.pooling,
    })
}
