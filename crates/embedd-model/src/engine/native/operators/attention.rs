//! `Attention`: attention within each text.

use ort::operator::{ComputeContext, OperatorInput};
use ort::{Error, Result};

use super::{HIDDEN_STATES, Node, Operation, Shared, TOKENS, failed, input, offsets, output};
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
        vec![HIDDEN_STATES, TOKENS]
    }

    fn create(node: &Node<'_>, weights: &NativeWeights) -> Result<Self> {
        let heads = node.count(attribute::HEADS)?;
        if heads == 0 {
            return Err(node.error("attribute `heads` must not be 0"));
        }
        let bias = match node.find::<i64>(attribute::FARTHEST) {
            Some(_) => {
                let farthest = node.count(attribute::FARTHEST)?;
                let columns = Some(2 * farthest + 1);
                let table = weights.matrix(tensor::RELATIVE_ATTENTION_BIAS, columns).map_err(failed)?;
                if table.shape()[0] != heads {
                    return Err(
                        node.error(format!("the attention bias has {} heads; expected {heads}", table.shape()[0]))
                    );
                }
                Some(Bias { table, farthest })
            }
            None => None,
        };
        Ok(Self { heads, bias })
    }

    fn compute(&self, shared: &Shared, context: &ComputeContext) -> Result<()> {
        let qkv = input(context, 0)?;
        let offsets_value = input(context, 1)?;
        let (shape, qkv) = qkv.try_extract_tensor::<f32>()?;
        let [tokens, columns] = shape[..] else {
            return Err(Error::new(format!("qkv has shape {shape}; expected two dimensions")));
        };
        let tokens = usize::try_from(tokens).map_err(failed)?;
        let columns = usize::try_from(columns).map_err(failed)?;
        if columns == 0 || !columns.is_multiple_of(3 * self.heads) {
            return Err(Error::new(format!(
                "qkv has {columns} columns, which cannot be divided among {} heads",
                self.heads
            )));
        }
        let offsets = offsets(&offsets_value, tokens)?;
        let longest = offsets.texts().map(|text| text.len()).max().unwrap_or(0);
        if let Some(bias) = self.bias.as_ref().filter(|bias| longest > bias.farthest + 1) {
            let reach = bias.farthest + 1;
            return Err(Error::new(format!(
                "a text has {longest} tokens; the maximum for the attention bias is {reach}"
            )));
        }
        let bias = self
            .bias
            .as_ref()
            .map(|Bias { table, farthest }| DistanceBias { table: shared.weights.get(table), farthest: *farthest });
        let attention = AttentionInput { qkv, heads: self.heads, bias };
        output(context, tokens, columns / 3, |states| {
            shared.kernels.attention(&shared.workers(context), &attention, &offsets, states);
            Ok(())
        })
    }
}
