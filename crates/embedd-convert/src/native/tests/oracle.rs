//! A plain encoder in float64, written for clarity: one text at a time, one number at a time. It has the parts of BERT and
//! its closest relatives.

use super::*;
use crate::calibrate::Calibration;
use crate::encoder::Linear;
use crate::encoder::relative_position::bucket;
use crate::weights::Tensor;
use embedd_kernels::{Activation, Heads};
use embedd_model::bundle::PoolingMode;

/// The results for some texts.
pub(super) struct Oracle {
    /// The pooled embedding of each text.
    pub(super) pooled: Vec<Vec<f32>>,
    /// The observed inputs of the linear layers.
    pub(super) calibration: Calibration,
}

type Rows = Vec<Vec<f64>>;

fn read(tensor: &Tensor<'_>) -> Rows {
    let width = tensor.shape().last().copied().expect("a dimension");
    let values: Vec<f64> = tensor.read().expect("values").into_iter().map(f64::from).collect();
    values.chunks(width).map(<[f64]>::to_vec).collect()
}

fn linear(linear: &Linear<'_>, rows: &Rows) -> Rows {
    let weight = read(&linear.weight);
    let bias = linear.biases().expect("values");
    let bias: Vec<f64> = bias.into_iter().map(f64::from).collect();
    let product = |row: &Vec<f64>, output: usize| -> f64 { row.iter().zip(&weight[output]).map(|(a, b)| a * b).sum() };
    rows.iter().map(|row| (0..bias.len()).map(|output| product(row, output) + bias[output]).collect()).collect()
}

fn norm(norm: &Norm<'_>, rows: Rows) -> Rows {
    let weight: Vec<f64> = norm.weights().expect("values").into_iter().map(f64::from).collect();
    let bias: Vec<f64> = norm.biases().expect("values").into_iter().map(f64::from).collect();
    let normalize = |row: Vec<f64>| {
        let count = row.len() as f64;
        let mean = row.iter().sum::<f64>() / count;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let scaled = row.iter().map(|x| (x - mean) / (variance + f64::from(norm.epsilon)).sqrt());
        scaled.zip(weight.iter().zip(&bias)).map(|(x, (weight, bias))| x * weight + bias).collect()
    };
    rows.into_iter().map(normalize).collect()
}

fn add(a: &Rows, b: &Rows) -> Rows {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

/// `x / 2 (1 + erf(x / sqrt 2))`, with the Taylor series of the error function.
fn gelu(x: f64) -> f64 {
    let z = (x / std::f64::consts::SQRT_2).clamp(-5.0, 5.0);
    let mut term = z;
    let mut sum = z;
    for n in 1..200 {
        let n = f64::from(n);
        term *= -z * z / n;
        sum += term / (2.0 * n + 1.0);
    }
    0.5 * x * (1.0 + 2.0 / std::f64::consts::PI.sqrt() * sum)
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
    }
}

fn pool(mode: PoolingMode, states: &Rows) -> Vec<f64> {
    let count = states.len() as f64;
    let channel = |channel: usize| -> f64 {
        let values = || states.iter().map(move |row| row[channel]);
        match mode {
            PoolingMode::Mean => values().sum::<f64>() / count,
            PoolingMode::MeanSqrtLen => values().sum::<f64>() / count.sqrt(),
            PoolingMode::WeightedMean => {
                let weighted: f64 = values().enumerate().map(|(index, x)| (index + 1) as f64 * x).sum();
                weighted / (count * (count + 1.0) / 2.0)
            }
            PoolingMode::Max => values().fold(f64::NEG_INFINITY, f64::max),
            PoolingMode::Cls => states[0][channel],
            PoolingMode::LastToken => states[states.len() - 1][channel],
        }
    };
    (0..states[0].len()).map(channel).collect()
}

impl Oracle {
    pub(super) fn run(encoder: &Encoder<'_>, texts: &[&[i64]]) -> Self {
        let mut oracle = Self { pooled: Vec::new(), calibration: Calibration::default() };
        for ids in texts {
            let states = oracle.encode(encoder, ids);
            let vectors = encoder.pooling.modes().iter().flat_map(|&mode| pool(mode, &states));
            oracle.pooled.push(vectors.map(|x| x as f32).collect());
        }
        oracle
    }

    fn encode(&mut self, encoder: &Encoder<'_>, ids: &[i64]) -> Rows {
        let embeddings = &encoder.embeddings;
        let words = read(&embeddings.words);
        let positions = embeddings.positions.as_ref().expect("a position table");
        let table = read(&positions.table);
        let mut seen = 0;
        let embedding = |(position, &id): (usize, &i64)| -> Vec<f64> {
            let word = &words[usize::try_from(id).expect("an id")];
            let mut position = match positions.padding {
                None => table[position].clone(),
                Some(padding) if id == padding as i64 => table[padding].clone(),
                Some(padding) => {
                    seen += 1;
                    table[padding + seen].clone()
                }
            };
            if let Some(token_types) = &embeddings.token_types {
                position.iter_mut().zip(&read(token_types)[0]).for_each(|(value, kind)| *value += kind);
            }
            word.iter().zip(position).map(|(a, b)| a + b).collect()
        };
        let rows = ids.iter().enumerate().map(embedding).collect();
        let mut states = norm(embeddings.norm.as_ref().expect("a norm"), rows);
        if let Some(projection) = &embeddings.projection {
            self.observe(0, LinearInput::Projection, &states);
            states = linear(projection, &states);
        }
        for (index, layer) in encoder.layers.iter().enumerate() {
            self.observe(index, LinearInput::Attention, &states);
            let [query, key, value] = [&layer.query, &layer.key, &layer.value].map(|part| linear(part, &states));
            let context = attention(encoder, &query, &key, &value);
            self.observe(index, LinearInput::AttentionOutput, &context);
            let sum = add(&linear(&layer.attention_output, &context), &states);
            states = norm(layer.attention_norms.sum.as_ref().expect("a norm"), sum);
            self.observe(index, LinearInput::Intermediate, &states);
            let mut inner = linear(&layer.intermediate, &states);
            inner.iter_mut().flatten().for_each(|x| *x = activate(encoder.activation, *x));
            self.observe(index, LinearInput::Output, &inner);
            let sum = add(&linear(&layer.output, &inner), &states);
            states = norm(layer.output_norms.sum.as_ref().expect("a norm"), sum);
        }
        states
    }

    fn observe(&mut self, layer: usize, input: LinearInput, rows: &Rows) {
        let values: Vec<f32> = rows.iter().flatten().map(|&x| x as f32).collect();
        self.calibration.measure_channels(layer, input, rows[0].len(), &values);
        self.calibration.keep(layer, input, rows[0].len(), &values, rows.len());
    }
}

fn attention(encoder: &Encoder<'_>, query: &Rows, key: &Rows, value: &Rows) -> Rows {
    let Heads { query: heads, size, .. } = encoder.heads;
    let mut context = vec![vec![0.0; encoder.hidden_size]; query.len()];
    for head in 0..heads {
        let part = head * size..(head + 1) * size;
        for (at, query) in query.iter().enumerate() {
            let score = |(other, key): (usize, &Vec<f64>)| {
                let dot: f64 = query[part.clone()].iter().zip(&key[part.clone()]).map(|(a, b)| a * b).sum();
                let bias = if let Distances::Bias(relative) = &encoder.distances {
                    let distance = i32::try_from(other).expect("short") - i32::try_from(at).expect("short");
                    read(&relative.table)[bucket(distance, relative.buckets)][head]
                } else {
                    0.0
                };
                (dot / (size as f64).sqrt() + bias).exp()
            };
            let weights: Vec<f64> = key.iter().enumerate().map(score).collect();
            let sum: f64 = weights.iter().sum();
            for channel in part.clone() {
                context[at][channel] =
                    weights.iter().zip(value).map(|(weight, value)| weight * value[channel]).sum::<f64>() / sum;
            }
        }
    }
    context
}
