//! `Pool`: pools the hidden states of each text into one vector.

use ort::operator::{ComputeContext, OperatorInput};
use ort::{Error, Result};

use super::{HIDDEN_STATES, Node, Operation, Shared, TOKENS, failed, input, offsets, output};
use crate::bundle::native_io::{attribute, operator, pooling};
use crate::engine::native::weights::NativeWeights;
use embedd_kernels::PoolingRule;

pub(super) struct Pool(PoolingRule);

impl Operation for Pool {
    const NAME: &'static str = operator::POOL;

    fn inputs() -> Vec<OperatorInput> {
        vec![HIDDEN_STATES, TOKENS]
    }

    fn create(node: &Node<'_>, _weights: &NativeWeights) -> Result<Self> {
        match node.attribute::<String>(attribute::POOLING)?.as_str() {
            pooling::MEAN => Ok(Self(PoolingRule::Mean)),
            pooling::CLS => Ok(Self(PoolingRule::First)),
            other => Err(node.error(format!("unsupported pooling `{other}`"))),
        }
    }

    fn compute(&self, shared: &Shared, context: &ComputeContext) -> Result<()> {
        let states = input(context, 0)?;
        let offsets_value = input(context, 1)?;
        let (shape, states) = states.try_extract_tensor::<f32>()?;
        let [tokens, hidden] = shape[..] else {
            return Err(Error::new(format!("the hidden states have shape {shape}; expected two dimensions")));
        };
        let hidden = usize::try_from(hidden).map_err(failed)?;
        let offsets = offsets(&offsets_value, usize::try_from(tokens).map_err(failed)?)?;
        output(context, offsets.texts().len(), hidden, |pooled| {
            shared.kernels.pool(states, &offsets, self.0, pooled);
            Ok(())
        })
    }
}
