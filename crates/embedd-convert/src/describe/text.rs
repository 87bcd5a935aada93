//! A description for people.

use std::fmt;

use super::{
    AttentionDescription, ModelDescription, ModelOrigin, ModuleDescription, Normalized, NormsDescription,
    PositionsDescription, TokenizerDescription, WeightFiles, Window,
};
use embedd_kernels::{Activation, NormKind};

/// The name of a part, and its lines.
type Part = (&'static str, Vec<String>);

const NORMS_PER_LINE: usize = 3;

impl fmt::Display for ModelDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.name)?;
        for (part, lines) in [self.of_encoder(), self.after_encoder()].concat() {
            for (index, line) in lines.iter().enumerate() {
                writeln!(f, "  {:14}{line}", if index == 0 { part } else { "" })?;
            }
        }
        Ok(())
    }
}

impl ModelDescription {
    fn of_encoder(&self) -> Vec<Part> {
        let encoder = &self.encoder;
        let gated = if encoder.feed_forward.gated { ", gated" } else { "" };
        let activation = activation(encoder.feed_forward.activation);
        vec![
            ("source", vec![origin(&self.source)]),
            (
                "architecture",
                vec![format!("{}: {} layers, hidden size {}", self.architecture, encoder.layers, encoder.hidden_size)],
            ),
            ("embeddings", vec![self.embeddings()]),
            ("positions", positions(&encoder.positions)),
            ("attention", attention(&encoder.attention)),
            ("feed-forward", vec![format!("size {}, {activation}{gated}", encoder.feed_forward.size)]),
            ("norms", norms(&encoder.norms)),
        ]
    }

    fn after_encoder(&self) -> Vec<Part> {
        let excluded = if self.exclude_prompt { ", without the tokens of prompts" } else { "" };
        vec![
            ("pooling", vec![format!("{}{excluded}", self.pooling)]),
            ("modules", or_none(self.modules.iter().map(module).collect())),
            ("embedding", vec![self.dimension()]),
            ("tokens", vec![format!("{} by default, at most {}", self.max_tokens, self.position_limit)]),
            ("prompts", self.prompts()),
            ("tokenizer", vec![tokenizer(&self.tokenizer)]),
            ("weights", self.weights.iter().flat_map(weights).collect()),
        ]
    }

    fn embeddings(&self) -> String {
        let embeddings = &self.encoder.embeddings;
        let mut text = format!("{} tokens", embeddings.vocab_size);
        if embeddings.token_types > 0 {
            text += &format!(", token types: {}", embeddings.token_types);
        }
        if embeddings.scaled {
            text += ", multiplied by the square root of their width";
        }
        if embeddings.width != self.encoder.hidden_size {
            text += &format!(", {} channels, then a linear layer", embeddings.width);
        }
        text
    }

    fn dimension(&self) -> String {
        let cut = self.truncate_dim.map_or("", |_| ", the first ones (truncate_dim)");
        format!("{} components{cut}", self.dimension)
    }

    fn prompts(&self) -> Vec<String> {
        let line = |(name, text): (&String, &String)| {
            let default = if self.default_prompt.as_ref() == Some(name) { " (default)" } else { "" };
            format!("{name}: {text:?}{default}")
        };
        or_none(self.prompts.iter().map(line).collect())
    }
}

fn or_none(lines: Vec<String>) -> Vec<String> {
    if lines.is_empty() { vec!["none".to_owned()] } else { lines }
}

fn origin(origin: &ModelOrigin) -> String {
    match origin {
        ModelOrigin::Folder { folder } => folder.display().to_string(),
        ModelOrigin::Hub { model, revision, commit } => {
            let commit = commit.as_ref().map_or(String::new(), |commit| format!(" (commit {commit})"));
            format!("{model} on the hub, revision {revision}{commit}")
        }
    }
}

fn positions(positions: &PositionsDescription) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(table) = positions.table {
        lines.push(format!("a table of {} rows, starting at row {}", table.rows, table.first_row));
    }
    if positions.distance_bias {
        lines.push("a bias of scores by distance".to_owned());
    }
    if let Some(rotary) = positions.rotary {
        let theta = rotary.theta.map(|theta| format!("theta {theta}"));
        let of_windows = rotary.window_theta.map(|theta| format!("theta {theta} in layers with windows"));
        lines.push(format!("rotary, {}", theta.into_iter().chain(of_windows).collect::<Vec<_>>().join(", ")));
    }
    if let Some(disentangled) = positions.disentangled {
        let terms = [
            (disentangled.content_to_position, ", content to position"),
            (disentangled.position_to_content, ", position to content"),
            (disentangled.shared_weights, ", shared weights"),
            (disentangled.normalized, ", normalized"),
        ];
        let terms: String = terms.iter().filter(|(exists, _)| *exists).map(|(_, term)| *term).collect();
        let logarithmic =
            disentangled.logarithmic_to.map_or(String::new(), |farthest| format!(", logarithmic up to {farthest}"));
        lines.push(format!("disentangled{terms}, span {}{logarithmic}", disentangled.span));
    }
    or_none(lines)
}

fn attention(attention: &AttentionDescription) -> Vec<String> {
    let heads = attention.heads;
    let shared = match heads.key == heads.query {
        true => String::new(),
        false => format!(" for queries, {} for keys and values", heads.key),
    };
    let direction = if attention.causal { "only to earlier tokens (causal)" } else { "in both directions" };
    let mut lines = vec![format!("{} heads{shared}, head size {}, {direction}", heads.query, heads.size)];
    if attention.squared_divisor != heads.size {
        lines.push(format!("scores divided by the square root of {}", attention.squared_divisor));
    }
    lines.extend(attention.windows.iter().map(window));
    lines
}

fn window(window: &Window) -> String {
    let tokens = |count: Option<usize>| count.map_or("all".to_owned(), |count| count.to_string());
    let (back, ahead) = (tokens(window.back), tokens(window.ahead));
    format!("layers {}: windows of {back} tokens back, {ahead} ahead", ranges(&window.layers))
}

/// Ascending numbers, with `-` between the ends of a range.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let runs = runs.map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

fn norms(norms: &NormsDescription) -> Vec<String> {
    let kind = match norms.kind {
        NormKind::Layer => "LayerNorm",
        NormKind::Rms => "RMSNorm",
    };
    let plus_one = if norms.plus_one { ", 1 + weight" } else { "" };
    let of: Vec<&str> = norms.of.iter().map(|place| normalized(*place)).collect();
    let of: Vec<String> = of.chunks(NORMS_PER_LINE).map(|line| line.join(", ")).collect();
    let of = format!("of {}", of.join(",\n"));
    let of = of.lines().map(str::to_owned);
    std::iter::once(format!("{kind}, epsilon {:e}{plus_one}", norms.epsilon)).chain(of).collect()
}

fn normalized(normalized: Normalized) -> &'static str {
    match normalized {
        Normalized::Embeddings => "embeddings",
        Normalized::AttentionInput => "attention inputs",
        Normalized::AttentionInputExceptFirst => "attention inputs except the first layer's",
        Normalized::QueriesAndKeys => "queries and keys",
        Normalized::AttentionOutput => "attention outputs",
        Normalized::AttentionSum => "sums after attention",
        Normalized::FeedForwardInput => "feed-forward inputs",
        Normalized::FeedForwardOutput => "feed-forward outputs",
        Normalized::FeedForwardSum => "sums after feed-forward",
        Normalized::LastLayer => "the last hidden states",
    }
}

fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "GELU",
        Activation::GeluTanh => "tanh GELU",
        Activation::Relu => "ReLU",
        Activation::Silu => "SiLU",
        Activation::Tanh => "tanh",
    }
}

fn module(module: &ModuleDescription) -> String {
    match module {
        ModuleDescription::Dense { folder, in_features, out_features, bias, activation: function } => {
            let bias = if *bias { "" } else { ", no bias" };
            let function = function.map_or(String::new(), |function| format!(", {}", activation(function)));
            format!("Dense in {}: {in_features} -> {out_features}{bias}{function}", folder.display())
        }
        ModuleDescription::LayerNorm { folder, dimension } => {
            format!("LayerNorm in {}: {dimension}", folder.display())
        }
    }
}

fn tokenizer(tokenizer: &TokenizerDescription) -> String {
    let case = if tokenizer.lowercase { "lowercases texts" } else { "keeps the case of texts" };
    format!("{}, {} tokens, {case}", tokenizer.model, tokenizer.vocab_size)
}

fn weights(weights: &WeightFiles) -> Vec<String> {
    match weights.found {
        true => weights.files.clone(),
        false => vec![format!("the first that exists of {}", weights.files.join(", "))],
    }
}
