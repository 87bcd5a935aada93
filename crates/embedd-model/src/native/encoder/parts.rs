//! The parts of an encoder: their places in the weights.

use std::sync::Arc;

use super::super::plan::{DistancesPlan, EmbeddingsPlan, LinearPlan, ModulePlan, NormPlan, NormsPlan, Plan, tensor};
use super::super::weights::{NativeWeights, Tensor, WeightsError};
use super::{Encoder, EncoderError};
use crate::bundle::PoolingMode;
use embedd_kernels::{Activation, InvalidWeights, LinearWeights, PoolingRule, Reach};

#[derive(Debug)]
pub(super) struct Embeddings {
    pub(super) words: Tensor<i8>,
    pub(super) word_scales: Tensor<f32>,
    pub(super) positions: Tensor<f32>,
    pub(super) norm: Option<Norm>,
    pub(super) projection: Option<Linear>,
}

/// How attention scores depend on distances.
#[derive(Debug)]
pub(super) enum FoundDistances {
    None,
    Bias { table: Tensor<f32>, farthest: usize },
    Disentangled { by_distance: Vec<u32> },
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) qkv: Linear,
    pub(super) query_key_norms: Option<[Norm; 2]>,
    /// The index of the rotations.
    pub(super) rotations: Option<usize>,
    pub(super) reach: Reach,
    /// Embeddings of distances as keys and as queries.
    pub(super) distances: [Option<Tensor<f32>>; 2],
    pub(super) attention_output: Linear,
    pub(super) attention_norms: Norms,
    pub(super) intermediate: Linear,
    pub(super) output: Linear,
    pub(super) output_norms: Norms,
}

/// The norms around a sublayer.
#[derive(Debug)]
pub(super) struct Norms {
    pub(super) input: Option<Norm>,
    pub(super) output: Option<Norm>,
    pub(super) sum: Option<Norm>,
}

/// A linear layer, and the activation that follows it.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) plan: LinearPlan,
    pub(super) activation: Option<Activation>,
    weight: Tensor<i8>,
    scale: Tensor<f32>,
    bias: Tensor<f32>,
}

#[derive(Debug)]
pub(super) struct Norm {
    plan: NormPlan,
    weight: Tensor<f32>,
    bias: Tensor<f32>,
}

#[derive(Debug)]
pub(super) enum Module {
    Dense(Linear),
    Norm(Norm),
}

impl FoundDistances {
    /// The number of tokens of the longest text.
    pub(super) fn limit(&self) -> usize {
        match self {
            Self::None => usize::MAX,
            Self::Bias { farthest, .. } => farthest + 1,
            Self::Disentangled { by_distance } => by_distance.len() / 2 + 1,
        }
    }
}

impl Linear {
    pub(super) fn weights<'w>(&self, weights: &'w NativeWeights) -> LinearWeights<'w> {
        self.try_weights(weights).expect("the shapes were checked when the tensors were found")
    }

    fn try_weights<'w>(&self, weights: &'w NativeWeights) -> Result<LinearWeights<'w>, InvalidWeights> {
        let integers = weights.get(&self.weight);
        let scale = weights.get(&self.scale);
        let bias = weights.get(&self.bias);
        LinearWeights::new(self.plan.layout(), self.plan.outputs, integers, scale, bias)
    }
}

impl Norm {
    pub(super) fn of<'w>(&self, weights: &'w NativeWeights) -> embedd_kernels::Norm<'w> {
        embedd_kernels::Norm {
            kind: self.plan.kind,
            weight: weights.get(&self.weight),
            bias: weights.get(&self.bias),
            epsilon: self.plan.epsilon,
        }
    }
}

impl Module {
    /// The number of components that it produces; `None` if it does not change.
    pub(super) fn width(&self) -> Option<usize> {
        match self {
            Self::Dense(linear) => Some(linear.plan.outputs),
            Self::Norm(_) => None,
        }
    }
}

/// Finds the tensors of a plan that was checked.
pub(super) fn find(plan: Plan, weights: Arc<NativeWeights>) -> Result<Encoder, EncoderError> {
    let mut thetas: Vec<f32> = plan.layers.iter().filter_map(|layer| layer.theta).collect();
    thetas.sort_by(f32::total_cmp);
    thetas.dedup();
    let find = Finder { weights: &weights, plan: &plan, thetas: &thetas };
    Ok(Encoder {
        embeddings: find.embeddings(&plan.embeddings)?,
        distances: find.distances()?,
        layers: (0..plan.layers.len()).map(|index| find.layer(index)).collect::<Result<_, _>>()?,
        final_norm: find.norm_if(plan.final_norm, tensor::FINAL)?,
        pooling: plan.pooling.modes().iter().copied().map(rule).collect(),
        modules: find.modules()?,
        thetas,
        plan,
        weights,
    })
}

fn rule(mode: PoolingMode) -> PoolingRule {
    match mode {
        PoolingMode::Mean => PoolingRule::Mean,
        PoolingMode::MeanSqrtLen => PoolingRule::MeanSqrtLen,
        PoolingMode::WeightedMean => PoolingRule::WeightedMean,
        PoolingMode::Max => PoolingRule::Max,
        PoolingMode::Cls => PoolingRule::First,
        PoolingMode::LastToken => PoolingRule::Last,
    }
}

/// Finds tensors by name, and checks their shapes.
struct Finder<'a> {
    weights: &'a NativeWeights,
    plan: &'a Plan,
    thetas: &'a [f32],
}

impl Finder<'_> {
    fn embeddings(&self, plan: &EmbeddingsPlan) -> Result<Embeddings, EncoderError> {
        let words = self.weights.matrix(tensor::WORD_EMBEDDINGS, Some(plan.width))?;
        let scales = [words.shape()[0], plan.width.div_ceil(plan.word_group)];
        let norm = plan.norm.then(|| self.norm(tensor::EMBEDDINGS, plan.width, self.plan.norm));
        let projection = plan.projection.map(|projection| self.linear(tensor::PROJECTION, projection, None));
        Ok(Embeddings {
            words,
            word_scales: self.weights.expect(tensor::WORD_SCALES, &scales)?,
            positions: self.weights.matrix(tensor::POSITION_EMBEDDINGS, Some(plan.width))?,
            norm: norm.transpose()?,
            projection: projection.transpose()?,
        })
    }

    fn distances(&self) -> Result<FoundDistances, WeightsError> {
        Ok(match &self.plan.distances {
            DistancesPlan::None => FoundDistances::None,
            DistancesPlan::Bias { farthest } => {
                let shape = [self.plan.heads.query, 2 * farthest + 1];
                let table = self.weights.expect(tensor::RELATIVE_ATTENTION_BIAS, &shape)?;
                FoundDistances::Bias { table, farthest: *farthest }
            }
            DistancesPlan::Disentangled { by_distance, .. } => {
                FoundDistances::Disentangled { by_distance: by_distance.clone() }
            }
        })
    }

    fn layer(&self, index: usize) -> Result<Layer, EncoderError> {
        let [qkv, attention_output, intermediate, output] = tensor::layer(index);
        let [attention_norms, output_norms] = tensor::norms(index);
        let Plan { layers, heads, activation, gated, query_key_norms, .. } = self.plan;
        let layer = &layers[index];
        let head_norms = query_key_norms.then(|| {
            let [query, key] = tensor::query_key_norms(index);
            let norm = |prefix: &str| self.norm(prefix, heads.size, self.plan.norm);
            Ok::<_, WeightsError>([norm(&query)?, norm(&key)?])
        });
        Ok(Layer {
            qkv: self.linear(&qkv, layer.qkv, None)?,
            query_key_norms: head_norms.transpose()?,
            rotations: layer.theta.and_then(|theta| self.thetas.iter().position(|&known| known == theta)),
            reach: layer.reach,
            distances: self.layer_distances(index)?,
            attention_output: self.linear(&attention_output, layer.attention_output, None)?,
            attention_norms: self.norms(&attention_norms, layer.attention_norms)?,
            intermediate: self.linear(&intermediate, layer.intermediate, (!gated).then_some(*activation))?,
            output: self.linear(&output, layer.output, None)?,
            output_norms: self.norms(&output_norms, layer.output_norms)?,
        })
    }

    fn layer_distances(&self, index: usize) -> Result<[Option<Tensor<f32>>; 2], WeightsError> {
        let DistancesPlan::Disentangled { keys, queries, embeddings, .. } = self.plan.distances else {
            return Ok([None, None]);
        };
        let [key_name, query_name] = tensor::distances(index);
        let shape = [embeddings, self.plan.heads.query, self.plan.heads.size];
        Ok([
            keys.then(|| self.weights.expect(&key_name, &shape)).transpose()?,
            queries.then(|| self.weights.expect(&query_name, &shape)).transpose()?,
        ])
    }

    fn modules(&self) -> Result<Vec<Module>, EncoderError> {
        let mut width = self.plan.pooling.modes().len() * self.plan.hidden;
        let module = |(index, plan): (usize, &ModulePlan)| {
            let prefix = tensor::module(index);
            Ok(match *plan {
                ModulePlan::Norm(plan) => Module::Norm(self.norm(&prefix, width, plan)?),
                ModulePlan::Dense { linear, activation } => {
                    width = linear.outputs;
                    Module::Dense(self.linear(&prefix, linear, activation)?)
                }
            })
        };
        self.plan.modules.iter().enumerate().map(module).collect()
    }

    fn linear(&self, prefix: &str, plan: LinearPlan, activation: Option<Activation>) -> Result<Linear, EncoderError> {
        let shapes = plan.layout().packed_shapes(plan.outputs);
        let linear = Linear {
            plan,
            activation,
            weight: self.weights.expect(&tensor::of(prefix, tensor::WEIGHT), &shapes.weights)?,
            scale: self.weights.expect(&tensor::of(prefix, tensor::SCALE), &shapes.scales)?,
            bias: self.weights.expect(&tensor::of(prefix, tensor::BIAS), &shapes.bias)?,
        };
        linear.try_weights(self.weights)?;
        Ok(linear)
    }

    fn norms(&self, [input, output, sum]: &[String; 3], plan: NormsPlan) -> Result<Norms, WeightsError> {
        Ok(Norms {
            input: self.norm_if(plan.input, input)?,
            output: self.norm_if(plan.output, output)?,
            sum: self.norm_if(plan.sum, sum)?,
        })
    }

    /// A norm of hidden states, if `exists`.
    fn norm_if(&self, exists: bool, prefix: &str) -> Result<Option<Norm>, WeightsError> {
        exists.then(|| self.norm(prefix, self.plan.hidden, self.plan.norm)).transpose()
    }

    fn norm(&self, prefix: &str, channels: usize, plan: NormPlan) -> Result<Norm, WeightsError> {
        Ok(Norm {
            plan,
            weight: self.weights.expect(&tensor::of(prefix, tensor::NORM_WEIGHT), &[channels])?,
            bias: self.weights.expect(&tensor::of(prefix, tensor::NORM_BIAS), &[channels])?,
        })
    }
}
