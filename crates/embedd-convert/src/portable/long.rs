//! Attention to long texts, a block of queries at a time: memory grows linearly with the number of tokens.

use super::attention::Operands;
use super::layer::Lowering;
use super::shared::{LongTexts, Pairs, counting, depend_on_distance, distances};
use crate::encoder::Layer;
use crate::onnx::{Attribute, Dim, GraphBuilder, Subgraph, Value};
use crate::onnx_proto::tensor_proto::DataType;
use embedd_kernels::Reach;

/// Part of the names of all values in a block.
const BLOCK: &str = "attention/long/block";

/// What the blocks of one layer share.
struct Whole {
    /// `[batch, sequence, heads * head_size]`
    query: Value,
    keys: Keys,
    /// The keys of distances.
    table: Option<Value>,
}

/// All keys of a text, or those within reach of a block of queries.
struct Keys {
    /// `[batch, heads, keys, head_size]`, as is `value`.
    key: Value,
    value: Value,
    /// int32 `[batch, keys]`
    padding: Value,
    /// int64 `[keys]`
    positions: Value,
    /// Products of the keys with the queries of distances, `[batch, heads, keys, rows]`.
    products: Option<Value>,
}

impl<'w> Lowering<'_, 'w> {
    /// Attention by blocks if the text is long; otherwise, attention of all queries at once.
    pub(super) fn attend_by_length(&mut self, layer: &'w Layer<'w>, operands: &Operands, long: &LongTexts) -> Value {
        let width = Dim::Fixed(self.encoder.heads.output());
        let dims = [Dim::Named("batch"), Dim::Named("sequence"), width];
        let outer = self.product.graph.start_subgraph("short");
        let output = self.attend_at_once("attention/short", layer, operands);
        let at_once = self.product.graph.finish_subgraph(outer, &output, &dims);

        let outer = self.product.graph.start_subgraph("long");
        let output = self.attend_by_blocks(layer, operands, long.block);
        let by_blocks = self.product.graph.finish_subgraph(outer, &output, &dims);

        let name = self.name("attention");
        let branches = [Attribute::Graph("then_branch", &by_blocks), Attribute::Graph("else_branch", &at_once)];
        self.product.graph.node(&name, "If", &[&long.is_long], &branches)
    }

    fn attend_by_blocks(&mut self, layer: &'w Layer<'w>, operands: &Operands, block: usize) -> Value {
        let whole = self.whole(layer, operands);
        let queries = self.queries_by_block(block);
        let body = self.block(layer.reach, &whole, block);
        let sequence = self.attention.sequence.clone();
        let names = ["blocks", "all", "unpadded"].map(|name| self.name(&format!("attention/long/{name}")));
        let width = self.encoder.heads.output() as i64;
        let graph = &mut *self.product.graph;
        let attributes = [
            Attribute::Graph("body", &body),
            Attribute::Int("num_scan_inputs", 1),
            Attribute::Ints("scan_output_axes", &[1]),
        ];
        let blocks = graph.node(&names[0], "Scan", &[&queries], &attributes);
        let joined = graph.integers(&[0, -1, width], &[3]);
        let [first, axis] = [0, 1].map(|value| graph.integers(&[value], &[1]));
        let all = graph.node(&names[1], "Reshape", &[&blocks, &joined], &[]);
        graph.node(&names[2], "Slice", &[&all, &first, &sequence, &axis], &[])
    }

    fn whole(&mut self, layer: &'w Layer<'w>, operands: &Operands) -> Whole {
        let Operands { mut query, mut key, mut value, bias, tables: [table, queries] } = operands.clone();
        if bias != GraphBuilder::absent() {
            query = self.add_bias("attention/query", &layer.query, query);
            key = self.add_bias("attention/key", &layer.key, key);
            value = self.add_bias("attention/value", &layer.value, value);
        }
        let products =
            queries.map(|queries| self.distance_product("attention/long/position_to_content", &key, &queries));
        let name = self.name("attention/long/positions");
        let positions = counting(self.product.graph, &name, &self.attention.sequence);
        let key = self.by_head("attention/long/key", &key);
        let value = self.by_head("attention/long/value", &value);
        let keys = Keys { key, value, padding: self.attention.padding.clone(), positions, products };
        Whole { query, keys, table }
    }

    /// The positions of each block's queries, int64 `[blocks, block]`. The last block repeats the last query.
    fn queries_by_block(&mut self, block: usize) -> Value {
        let names = ["last", "extended", "blocks", "end", "all", "existing", "by_block"];
        let [last, extended, blocks, end, all, existing, by_block] =
            names.map(|name| self.name(&format!("attention/long/queries/{name}")));
        let sequence = &self.attention.sequence;
        let graph = &mut *self.product.graph;
        let [one, rest, size] = [1, block - 1, block].map(|value| graph.integers(&[value as i64], &[1]));
        let shape = graph.integers(&[-1, block as i64], &[2]);
        let last = graph.node(&last, "Sub", &[sequence, &one], &[]);
        let extended = graph.node(&extended, "Add", &[sequence, &rest], &[]);
        let blocks = graph.node(&blocks, "Div", &[&extended, &size], &[]);
        let end = graph.node(&end, "Mul", &[&blocks, &size], &[]);
        let all = counting(graph, &all, &end);
        let existing = graph.node(&existing, "Min", &[&all, &last], &[]);
        graph.node(&by_block, "Reshape", &[&existing, &shape], &[])
    }

    /// Attention of one block of queries, whose positions are the body's input: `[batch, block, heads * head_size]`.
    fn block(&mut self, reach: Reach, whole: &Whole, block: usize) -> Subgraph {
        let names = ["queries", "query"].map(|name| self.name(&format!("{BLOCK}/{name}")));
        let graph = &mut *self.product.graph;
        let outer = graph.start_subgraph("block");
        let queries = graph.input(&names[0], DataType::Int64, &[Dim::Fixed(block)]);
        let query = graph.node(&names[1], "Gather", &[&whole.query, &queries], &[Attribute::Int("axis", 1)]);
        let reached = (reach != Reach::WHOLE_TEXT).then(|| self.keys_in_reach(reach, &whole.keys, &queries, block));
        let keys = reached.as_ref().unwrap_or(&whole.keys);
        let added = self.added_in_block(reach, whole, keys, &query, &queries);
        let inputs = [&query, &keys.key, &keys.value, &GraphBuilder::absent(), &keys.padding, &added];
        let output = self.multi_head(&format!("{BLOCK}/attention"), &inputs);
        let dims = [Dim::Named("batch"), Dim::Fixed(block), Dim::Fixed(self.encoder.heads.output())];
        self.product.graph.finish_subgraph(outer, &output, &dims)
    }

    /// The keys within reach of at least one query of a block.
    fn keys_in_reach(&mut self, reach: Reach, keys: &Keys, queries: &Value, block: usize) -> Keys {
        let name = |part: &str| self.name(&format!("{BLOCK}/keys/{part}"));
        let [first, back, start] = ["first", "back", "start"].map(name);
        let [last, end] = ["last", "end"].map(name);
        let names = ["key", "value", "padding", "positions", "products"].map(name);
        let farthest = self.encoder.farthest();
        let sequence = &self.attention.sequence;
        let graph = &mut *self.product.graph;
        let [zero, one, two] = [0, 1, 2].map(|value| graph.integers(&[value], &[1]));
        let start = match reach.back {
            Some(tokens) => {
                let tokens = graph.integers(&[tokens.min(farthest) as i64], &[1]);
                let first = graph.node(&first, "Slice", &[queries, &zero, &one, &zero], &[]);
                let start_of_reach = graph.node(&back, "Sub", &[&first, &tokens], &[]);
                graph.node(&start, "Max", &[&start_of_reach, &zero], &[])
            }
            None => zero.clone(),
        };
        let end = match reach.ahead {
            Some(tokens) => {
                let [before, size] = [block - 1, block].map(|value| graph.integers(&[value as i64], &[1]));
                let tokens = graph.integers(&[tokens.min(farthest) as i64 + 1], &[1]);
                let last = graph.node(&last, "Slice", &[queries, &before, &size, &zero], &[]);
                graph.node(&end, "Add", &[&last, &tokens], &[])
            }
            None => sequence.clone(),
        };
        let mut slice =
            |name: &str, value: &Value, axis: &Value| graph.node(name, "Slice", &[value, &start, &end, axis], &[]);
        Keys {
            key: slice(&names[0], &keys.key, &two),
            value: slice(&names[1], &keys.value, &two),
            padding: slice(&names[2], &keys.padding, &one),
            positions: slice(&names[3], &keys.positions, &zero),
            products: keys.products.as_ref().map(|products| slice(&names[4], products, &two)),
        }
    }

    /// What is added to the scores of one block, or absent.
    fn added_in_block(&mut self, reach: Reach, whole: &Whole, keys: &Keys, query: &Value, queries: &Value) -> Value {
        if !depend_on_distance(self.encoder, &[reach]) {
            return GraphBuilder::absent();
        }
        let attention = self.attention;
        let prefix = self.name(&format!("{BLOCK}/"));
        let graph = &mut *self.product.graph;
        let distance = distances(graph, &prefix, queries, &keys.positions);
        let pairs = Pairs::new(graph, &prefix, self.encoder, &attention.by_distance, &distance, &[reach]);
        let lengths = [("query_count", queries), ("key_count", &keys.positions)];
        let lengths =
            lengths.map(|(name, positions)| graph.node(&format!("{prefix}{name}"), "Shape", &[positions], &[]));
        let of_queries = whole.table.as_ref();
        let part = format!("{BLOCK}/content_to_position");
        let of_queries = of_queries.map(|table| self.distance_product(&part, query, table));
        let products = [of_queries, keys.products.clone()];
        self.added_to_scores(BLOCK, reach, &pairs, products, [&lengths[0], &lengths[1]])
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use crate::onnx_proto::ModelProto;
    use crate::portable::{LongAttention, lower_with_blocks};
    use crate::tiny::{Tiny, folder, with_encoder};

    #[test]
    fn only_models_that_accept_long_texts_have_attention_by_blocks() {
        let dir = folder();
        Tiny::mpnet().write(dir.path());
        with_encoder(dir.path(), |encoder| {
            let limit = encoder.position_limit;
            let operators = |over| {
                let graph = lower_with_blocks(encoder, LongAttention { over, block: 4 }).expect("a graph");
                let mut bytes = Vec::new();
                graph.write(&[], &mut bytes, |_| {}).expect("a model");
                let model = ModelProto::decode(bytes.as_slice()).expect("a protobuf message");
                let nodes = model.graph.expect("a graph").node;
                ["If", "MultiHeadAttention"].map(|name| nodes.iter().filter(|node| node.op_type == name).count())
            };
            assert_eq!(operators(limit), [0, encoder.layers.len()]);
            assert_eq!(operators(limit - 1), [encoder.layers.len(), 0]);
        });
    }
}
