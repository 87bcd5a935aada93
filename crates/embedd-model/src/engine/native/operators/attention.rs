//! `Attention` within each text.

use ort::operator::{ComputeContext, OperatorInput};
use ort::{Error, Result};

use super::{Node, Operation, STATES, Shared, TOKENS, failed, input, offsets, output};
use crate::bundle::native_io::{attribute, operator, tensor};
use crate::engine::native::weights::{NativeWeights, Tensor};
use embedd_kernels::{AttentionInput, DistanceBias};

pub(super) struct Attention {
    heads: usize,
    bias: Option<Bias>,
}

struct Bias {
    table: Tensor<f32>,
    farthest: usize,
}

impl Operation for Attention {
    const NAME: &'static str = operator::ATTENTION;

    fn inputs() -> Vec<OperatorInput> {
        vec![STATES, TOKENS]
    }

    fn create(node: &Node<'_>, weights: &NativeWeights) -> Result<Self> {
        let heads = node.count(attribute::HEADS)?;
        if heads == 0 {
            return Err(node.error("its attribute `heads` is 0"));
        }
        let bias = match node.find::<i64>(attribute::FARTHEST) {
            Some(_) => {
                let farthest = node.count(attribute::FARTHEST)?;
                let columns = Some(2 * farthest + 1);
                let table = weights.matrix(tensor::RELATIVE_ATTENTION_BIAS, columns).map_err(failed)?;
                if table.shape()[0] != heads {
                    return Err(node.error(format!("a bias for {} heads, and there are {heads}", table.shape()[0])));
                }
                Some(Bias { table, farthest })
            }
            None => None,
        };
        Ok(Self { heads, bias })
    }

    fn compute(&self, shared: &Shared, context: &ComputeContext) -> Result<()> {
        let (qkv, offsets_value) = (input(context, 0)?, input(context, 1)?);
        let (shape, qkv) = qkv.try_extract_tensor::<f32>()?;
        let [tokens, columns] = shape[..] else { return Err(Error::new(format!("qkv is {shape}"))) };
        let (tokens, columns) = (usize::try_from(tokens).map_err(failed)?, usize::try_from(columns).map_err(failed)?);
        if columns == 0 || !columns.is_multiple_of(3 * self.heads) {
            return Err(Error::new(format!("qkv has {columns} columns, which {} heads cannot share", self.heads)));
        }
        let offsets = offsets(&offsets_value, tokens)?;
        let longest = offsets.texts().map(|text| text.len()).max().unwrap_or(0);
        if let Some(bias) = self.bias.as_ref().filter(|bias| longest > bias.farthest + 1) {
            let reach = bias.farthest + 1;
            return Err(Error::new(format!("a text has {longest} tokens, and the model reaches over {reach}")));
        }
        let bias = self
            .bias
            .as_ref()
            .map(|Bias { table, farthest }| DistanceBias { table: shared.weights.get(table), farthest: *farthest });
        let taken = AttentionInput { qkv, heads: self.heads, bias };
        output(context, tokens, columns / 3, |states| {
            shared.kernels.attention(&shared.workers(context), &taken, &offsets, states);
            Ok(())
        })
    }
}
