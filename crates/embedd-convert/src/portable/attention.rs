//! The attention of one layer.

use super::layer::Lowering;
use super::operators::normalized;
use super::product::Prepared;
use super::shared::Pairs;
use super::transpose;
use crate::encoder::{Distances, Layer, Norm};
use crate::onnx::{Attribute, GraphBuilder, MICROSOFT, Value};
use crate::weights::WeightsError;
use embedd_kernels::Reach;

/// The inputs of one layer's attention.
#[derive(Clone)]
pub(super) struct Operands {
    /// `[batch, sequence, query heads * head_size]`, as are `key` and `value`.
    pub(super) query: Value,
    pub(super) key: Value,
    pub(super) value: Value,
    /// The biases of all three, which have not been added, or absent.
    pub(super) bias: Value,
    /// Keys and queries of distances, `[heads, head_size, rows]`.
    pub(super) tables: [Option<Value>; 2],
}

impl<'w> Lowering<'_, 'w> {
    /// The output of attention, float32 `[batch, sequence, query heads * head_size]`.
    pub(super) fn attend(&mut self, layer: &'w Layer<'w>, input: &Prepared<'w>) -> Result<Value, WeightsError> {
        let heads = self.encoder.heads;
        let mut query = self.product.compute("attention/query", &layer.query, input)?;
        let mut key = self.product.compute("attention/key", &layer.key, input)?;
        let mut value = self.product.compute("attention/value", &layer.value, input)?;
        let mut bias = GraphBuilder::absent();
        let is_plain = layer.theta.is_none()
            && layer.query_key_norms.is_none()
            && heads.query == heads.key
            && !matches!(self.encoder.distances, Distances::Disentangled(_));
        if is_plain && layer.query.bias.is_some() {
            let name = self.name("attention/bias");
            bias = self.product.graph.weight(&name, &[3 * heads.output()], move || {
                Ok([layer.query.biases()?, layer.key.biases()?, layer.value.biases()?].concat())
            });
        } else {
            query = self.add_bias("attention/query", &layer.query, query);
            key = self.add_bias("attention/key", &layer.key, key);
            value = self.add_bias("attention/value", &layer.value, value);
        }
        if let Some([of_queries, of_keys]) = &layer.query_key_norms {
            query = self.normalize_heads("attention/query", of_queries, heads.query, &query);
            key = self.normalize_heads("attention/key", of_keys, heads.key, &key);
        }
        if let Some(theta) = layer.theta {
            query = self.rotate("attention/query", theta, &query);
            key = self.rotate("attention/key", theta, &key);
        }
        if heads.query != heads.key {
            key = self.share_heads("attention/key", &key);
            value = self.share_heads("attention/value", &value);
        }
        let tables = self.distance_tables()?;
        let operands = Operands { query, key, value, bias, tables };
        let attention = self.attention;
        Ok(match &attention.long {
            Some(long) => self.attend_by_length(layer, &operands, long),
            None => self.attend_at_once("attention", layer, &operands),
        })
    }

    /// Attention of all queries at once, whose memory grows with the square of the number of tokens.
    pub(super) fn attend_at_once(&mut self, name: &str, layer: &Layer<'_>, operands: &Operands) -> Value {
        let attention = self.attention;
        let [keys, queries] = &operands.tables;
        let products = [
            keys.as_ref().map(|keys| self.distance_product("attention/content_to_position", &operands.query, keys)),
            queries
                .as_ref()
                .map(|queries| self.distance_product("attention/position_to_content", &operands.key, queries)),
        ];
        let lengths = [&attention.sequence, &attention.sequence];
        let added = self.added_to_scores("attention", layer.reach, &attention.pairs, products, lengths);
        let Operands { query, key, value, bias, .. } = operands;
        self.multi_head(name, &[query, key, value, bias, &attention.padding, &added])
    }

    pub(super) fn multi_head(&mut self, name: &str, inputs: &[&Value]) -> Value {
        let mut attributes = vec![Attribute::Int("num_heads", self.encoder.heads.query as i64)];
        if self.encoder.squared_divisor != self.encoder.heads.size {
            attributes.push(Attribute::Float("scale", self.scale()));
        }
        let name = self.name(name);
        self.product.graph.node_in(MICROSOFT, &name, "MultiHeadAttention", inputs, &attributes)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.encoder.squared_divisor as f32).sqrt()
    }

    fn normalize_heads(&mut self, part: &str, norm: &'w Norm<'w>, heads: usize, value: &Value) -> Value {
        let names = ["heads", "head_norm", "normalized"].map(|name| self.name(&format!("{part}/{name}")));
        let graph = &mut *self.product.graph;
        let divided = graph.integers(&[0, 0, heads as i64, norm.channels() as i64], &[4]);
        let whole = graph.integers(&[0, 0, -1], &[3]);
        let value = graph.node(&names[0], "Reshape", &[value, &divided], &[]);
        let value = normalized(graph, &names[1], norm, &value);
        graph.node(&names[2], "Reshape", &[&value, &whole], &[])
    }

    fn rotate(&mut self, part: &str, theta: f32, value: &Value) -> Value {
        let name = self.name(&format!("{part}/rotated"));
        let known = self.attention.rotations.iter().find(|(known, _)| *known == theta);
        let [cosines, sines] = &known.expect("there are rotations for every base").1;
        let graph = &mut *self.product.graph;
        let first = graph.integers(&[0], &[1]);
        graph.node_in(MICROSOFT, &name, "RotaryEmbedding", &[value, &first, cosines, sines], &[])
    }

    /// Repeats the key heads, or value heads, for the query heads that share them.
    fn share_heads(&mut self, part: &str, value: &Value) -> Value {
        let heads = self.encoder.heads;
        let names = ["heads", "repeated", "shared"].map(|name| self.name(&format!("{part}/share/{name}")));
        let graph = &mut *self.product.graph;
        let divided = graph.integers(&[0, 0, heads.key as i64, 1, heads.size as i64], &[5]);
        let repeats = graph.integers(&[1, 1, 1, (heads.query / heads.key) as i64, 1], &[5]);
        let whole = graph.integers(&[0, 0, heads.output() as i64], &[3]);
        let value = graph.node(&names[0], "Reshape", &[value, &divided], &[]);
        let value = graph.node(&names[1], "Tile", &[&value, &repeats], &[]);
        graph.node(&names[2], "Reshape", &[&value, &whole], &[])
    }

    /// What is added to the scores of `pairs`, broadcastable to `[batch, heads, queries, keys]`, or absent.
    ///
    /// `products` are those of queries and of keys; see [`distance_product`](Self::distance_product). `lengths` are the
    /// numbers of queries and of keys.
    pub(super) fn added_to_scores(
        &mut self,
        part: &str,
        reach: Reach,
        pairs: &Pairs,
        products: [Option<Value>; 2],
        lengths: [&Value; 2],
    ) -> Value {
        let bias = match &pairs.rows {
            Some(rows) => self.disentangled(part, rows, products, lengths),
            None => pairs.bias.clone(),
        };
        match (bias, pairs.mask(reach).cloned()) {
            (Some(bias), Some(mask)) => {
                let name = self.name(&format!("{part}/bias_and_mask"));
                self.product.graph.float_node(&name, "Add", &[&bias, &mask])
            }
            (Some(added), None) | (None, Some(added)) => added,
            (None, None) => GraphBuilder::absent(),
        }
    }

    /// The products of queries and keys with embeddings of distances, divided like scores:
    /// `[batch, heads, queries, keys]`.
    fn disentangled(
        &mut self,
        part: &str,
        rows: &Value,
        [of_queries, of_keys]: [Option<Value>; 2],
        [queries, keys]: [&Value; 2],
    ) -> Option<Value> {
        let mut terms = Vec::new();
        if let Some(product) = of_queries {
            let term = format!("{part}/content_to_position");
            terms.push(self.select_by_distance(&term, &product, rows, [queries, keys]));
        }
        if let Some(product) = of_keys {
            let term = format!("{part}/position_to_content");
            let names = ["index", "transposed"].map(|name| self.name(&format!("{term}/{name}")));
            let by_key = self.product.graph.node(&names[0], "Transpose", &[rows], &[]);
            let product = self.select_by_distance(&term, &product, &by_key, [keys, queries]);
            let order = [Attribute::Ints("perm", &[0, 1, 3, 2])];
            terms.push(self.product.graph.node(&names[1], "Transpose", &[&product], &order));
        }
        let first = terms.first()?;
        let names = ["distances", "distances/scaled"].map(|name| self.name(&format!("{part}/{name}")));
        let scale = self.scale();
        let graph = &mut *self.product.graph;
        let sum = match terms.get(1) {
            Some(second) => graph.float_node(&names[0], "Add", &[first, second]),
            None => first.clone(),
        };
        let scale = graph.float(scale);
        Some(graph.float_node(&names[1], "Mul", &[&sum, &scale]))
    }

    /// The keys and the queries of distances, `[heads, head_size, rows]` each, as far as the model has them.
    fn distance_tables(&mut self) -> Result<[Option<Value>; 2], WeightsError> {
        let Distances::Disentangled(disentangled) = &self.encoder.distances else { return Ok([None, None]) };
        let layer = self.product.layer;
        let rows = disentangled.rows();
        let keys = disentangled.has_keys().then(|| disentangled.keys(layer)).transpose()?;
        let queries = disentangled.has_queries().then(|| disentangled.queries(layer)).transpose()?;
        Ok([
            keys.map(|table| self.distance_table("attention/content_to_position/table", table, rows)),
            queries.map(|table| self.distance_table("attention/position_to_content/table", table, rows)),
        ])
    }

    /// `table` is `[rows, heads * head_size]`.
    fn distance_table(&mut self, name: &str, table: Vec<f32>, rows: usize) -> Value {
        let heads = self.encoder.heads;
        let name = self.name(name);
        // `[rows, heads * size]` transposed is `[heads, size, rows]`.
        let transposed = move || Ok(transpose(&table, heads.output()));
        self.product.graph.weight(&name, &[heads.query, heads.size, rows], transposed)
    }

    /// The products of each row of `value`, queries or keys, with all rows of `table`: `[batch, heads, tokens, rows]`.
    pub(super) fn distance_product(&mut self, part: &str, value: &Value, table: &Value) -> Value {
        let name = self.name(&format!("{part}/product"));
        let value = self.by_head(part, value);
        self.product.graph.node(&name, "MatMul", &[&value, table], &[])
    }

    /// `[batch, tokens, heads * head_size]` to `[batch, heads, tokens, head_size]`.
    pub(super) fn by_head(&mut self, part: &str, value: &Value) -> Value {
        let heads = self.encoder.heads;
        let names = ["heads", "ordered"].map(|name| self.name(&format!("{part}/{name}")));
        let graph = &mut *self.product.graph;
        let divided = graph.integers(&[0, 0, heads.query as i64, heads.size as i64], &[4]);
        let value = graph.node(&names[0], "Reshape", &[value, &divided], &[]);
        graph.node(&names[1], "Transpose", &[&value], &[Attribute::Ints("perm", &[0, 2, 1, 3])])
    }

    /// The part of `product`, `[batch, heads, tokens, rows]`, in the row of the distance to each of the other tokens:
    /// `[batch, heads, tokens, others]`. `rows` is `[tokens, others]`.
    fn select_by_distance(&mut self, part: &str, product: &Value, rows: &Value, lengths: [&Value; 2]) -> Value {
        let names = ["batch", "shape", "all", "term"].map(|name| self.name(&format!("{part}/{name}")));
        let graph = &mut *self.product.graph;
        let both = [Attribute::Int("start", 0), Attribute::Int("end", 2)];
        let batch = graph.node(&names[0], "Shape", &[product], &both);
        let axis = [Attribute::Int("axis", 0)];
        let shape = graph.node(&names[1], "Concat", &[&batch, lengths[0], lengths[1]], &axis);
        let rows = graph.node(&names[2], "Expand", &[rows, &shape], &[]);
        graph.node(&names[3], "GatherElements", &[product, &rows], &[Attribute::Int("axis", 3)])
    }
}
