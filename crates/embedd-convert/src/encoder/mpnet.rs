//! MPNet (Song et al. 2020): BERT's layers, positions that skip padding, and a relative position bias.

use super::{Encoder, EncoderError, Layer, Positions, Reader, RelativeAttention};
use crate::source::Source;

/// The padding token's id and position row, fixed in the original implementation.
const PADDING: usize = 1;
/// The number of buckets if the configuration does not set it.
const DEFAULT_BUCKETS: usize = 32;

pub(super) fn describe<'w>(source: &Source, reader: &Reader<'_, 'w>) -> Result<Encoder<'w>, EncoderError> {
    let config = &source.config;
    let hidden = config.hidden_size;
    let inner = config.intermediate_size;
    let buckets = config.relative_attention_num_buckets.unwrap_or(DEFAULT_BUCKETS);
    let layer = |index: usize| -> Result<Layer<'w>, EncoderError> {
        let at = |part: &str| format!("encoder.layer.{index}.{part}");
        Ok(Layer {
            query: reader.linear(&at("attention.attn.q"), hidden, hidden)?,
            key: reader.linear(&at("attention.attn.k"), hidden, hidden)?,
            value: reader.linear(&at("attention.attn.v"), hidden, hidden)?,
            attention_output: reader.linear(&at("attention.attn.o"), hidden, hidden)?,
            attention_norm: reader.layer_norm(&at("attention.LayerNorm"))?,
            intermediate: reader.linear(&at("intermediate.dense"), inner, hidden)?,
            output: reader.linear(&at("output.dense"), hidden, inner)?,
            output_norm: reader.layer_norm(&at("output.LayerNorm"))?,
        })
    };
    let bias_shape = [buckets, config.num_attention_heads];
    let because = "relative_attention_num_buckets and num_attention_heads";
    Ok(Encoder {
        architecture: "mpnet",
        hidden_size: hidden,
        heads: config.num_attention_heads,
        position_limit: config.max_position_embeddings.saturating_sub(PADDING + 1),
        layer_norm_eps: config.layer_norm_eps,
        word_embeddings: reader.word_embeddings()?,
        positions: Positions::SkippingPadding { table: reader.position_embeddings()?, padding: PADDING },
        embedding_norm: reader.layer_norm("embeddings.LayerNorm")?,
        relative_attention: Some(RelativeAttention {
            table: reader.tensor("encoder.relative_attention_bias.weight", &bias_shape, because)?,
            buckets,
        }),
        layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        pooling: source.pooling,
    })
}
