//! The attention of one layer.

use super::layer::Lowering;
use super::operators::normalized;
use super::product::Prepared;
use super::transpose;
use crate::encoder::{DisentangledAttention, Distances, Layer, Norm};
use crate::onnx::{Attribute, GraphBuilder, MICROSOFT, Value};
use crate::weights::WeightsError;

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
            && self.attention.rows.is_none();
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
        let scores = self.added_to_scores(layer, &query, &key)?;
        let inputs = [&query, &key, &value, &bias, &self.attention.padding, &scores];
        let mut attributes = vec![Attribute::Int("num_heads", heads.query as i64)];
        if self.encoder.squared_divisor != heads.size {
            attributes.push(Attribute::Float("scale", self.scale()));
        }
        let name = self.name("attention");
        Ok(self.product.graph.node_in(MICROSOFT, &name, "MultiHeadAttention", &inputs, &attributes))
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

    /// What is added to the scores, broadcastable to `[batch, heads, sequence, sequence]`, or absent.
    fn added_to_scores(&mut self, layer: &'w Layer<'w>, query: &Value, key: &Value) -> Result<Value, WeightsError> {
        let mask = self.attention.masks.iter().find(|(reach, _)| *reach == layer.reach).map(|(_, mask)| mask.clone());
        let bias = match &self.encoder.distances {
            Distances::Disentangled(disentangled) => self.disentangled(disentangled, query, key)?,
            _ => self.attention.bias.clone(),
        };
        Ok(match (bias, mask) {
            (Some(bias), Some(mask)) => {
                let name = self.name("attention/bias_and_mask");
                self.product.graph.node(&name, "Add", &[&bias, &mask], &[])
            }
            (Some(added), None) | (None, Some(added)) => added,
            (None, None) => GraphBuilder::absent(),
        })
    }

    /// The products of queries and keys with embeddings of distances, divided like scores:
    /// `[batch, heads, sequence, sequence]`.
    fn disentangled(
        &mut self,
        disentangled: &'w DisentangledAttention<'w>,
        query: &Value,
        key: &Value,
    ) -> Result<Option<Value>, WeightsError> {
        let layer = self.product.layer;
        let mut terms = Vec::new();
        if disentangled.has_keys() {
            let table = disentangled.keys(layer)?;
            terms.push(self.distance_product("attention/content_to_position", query, table, disentangled.rows()));
        }
        if disentangled.has_queries() {
            let table = disentangled.queries(layer)?;
            let product = self.distance_product("attention/position_to_content", key, table, disentangled.rows());
            let name = self.name("attention/position_to_content/transposed");
            let order = [Attribute::Ints("perm", &[0, 1, 3, 2])];
            terms.push(self.product.graph.node(&name, "Transpose", &[&product], &order));
        }
        let Some(first) = terms.first().cloned() else { return Ok(None) };
        let names = ["attention/distances", "attention/distances/scaled"].map(|name| self.name(name));
        let scale = self.scale();
        let graph = &mut *self.product.graph;
        let sum = match terms.get(1) {
            Some(second) => graph.node(&names[0], "Add", &[&first, second], &[]),
            None => first,
        };
        let scale = graph.float(scale);
        Ok(Some(graph.node(&names[1], "Mul", &[&sum, &scale], &[])))
    }

    /// The product of each row of `value` with the row of `table`, `[rows, heads * head_size]`, for its distance to
    /// every other token: `[batch, heads, sequence, sequence]`.
    ///
    /// If `value` has keys, the distance is that from the token of the last dimension.
    fn distance_product(&mut self, part: &str, value: &Value, table: Vec<f32>, rows: usize) -> Value {
        let heads = self.encoder.heads;
        let names = ["heads", "ordered", "table", "product", "shape", "index", "all", "term", "batch"];
        let names = names.map(|name| self.name(&format!("{part}/{name}")));
        let of_queries = part.ends_with("content_to_position");
        let index = self.attention.rows.clone().expect("there are rows of distances");
        let sequence = self.attention.sequence.clone();
        let graph = &mut *self.product.graph;
        let divided = graph.integers(&[0, 0, heads.query as i64, heads.size as i64], &[4]);
        let value = graph.node(&names[0], "Reshape", &[value, &divided], &[]);
        let value = graph.node(&names[1], "Transpose", &[&value], &[Attribute::Ints("perm", &[0, 2, 1, 3])]);
        let table = graph.weight(&names[2], &[heads.query, heads.size, rows], move || {
            // `[rows, heads * size]` transposed is `[heads, size, rows]`.
            Ok(transpose(&table, heads.output()))
        });
        let product = graph.node(&names[3], "MatMul", &[&value, &table], &[]);
        let both = [Attribute::Int("start", 0), Attribute::Int("end", 2)];
        let batch = graph.node(&names[8], "Shape", &[&product], &both);
        let axis = [Attribute::Int("axis", 0)];
        let shape = graph.node(&names[4], "Concat", &[&batch, &sequence, &sequence], &axis);
        // The rows are listed by query, then key.
        let index = if of_queries { index } else { graph.node(&names[5], "Transpose", &[&index], &[]) };
        let index = graph.node(&names[6], "Expand", &[&index, &shape], &[]);
        graph.node(&names[7], "GatherElements", &[&product, &index], &[Attribute::Int("axis", 3)])
    }
}
