//! The custom operator of native graphs.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput};
use ort::value::{TensorElementType, ValueRef};
use ort::{Error, Result};

use super::workers::Workers;
use crate::native::plan::{self, Plan};
use crate::native::{Batch, Buffers, Encoder, NativeWeights};
use embedd_kernels::{Kernels, Offsets};

/// What the kernels of one session need.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) weights: Arc<NativeWeights>,
    pub(super) kernels: Kernels,
    pub(super) threads: NonZeroUsize,
}

/// Creates the operator for one session.
pub(super) fn domain(shared: &Shared) -> Result<OperatorDomain> {
    OperatorDomain::new(plan::DOMAIN)?.add(EncoderOperator(shared.clone()))
}

struct EncoderOperator(Shared);

struct EncoderKernel {
    shared: Shared,
    encoder: Encoder,
    buffers: Buffers,
}

impl Operator for EncoderOperator {
    type Kernel<'attr> = EncoderKernel;

    fn name(&self) -> &str {
        plan::OPERATOR
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TensorElementType::Int64; 3].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> Result<EncoderKernel> {
        without_panic(|| {
            let plan: String =
                context.get(plan::PLAN).ok_or_else(|| Error::new("the encoder has no attribute `plan`"))?;
            let plan: Plan = serde_json::from_str(&plan).map_err(failed)?;
            let shared = self.0.clone();
            let encoder = Encoder::new(plan, Arc::clone(&shared.weights)).map_err(failed)?;
            Ok(EncoderKernel { shared, encoder, buffers: Buffers::default() })
        })
    }
}

impl Kernel for EncoderKernel {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        without_panic(|| self.run(context))
    }
}

impl EncoderKernel {
    fn run(&mut self, context: &ComputeContext) -> Result<()> {
        let ids = input(context, 0)?;
        let offsets = input(context, 1)?;
        let ids = ids.try_extract_tensor::<i64>()?.1;
        let offsets = Offsets::new(offsets.try_extract_tensor::<i64>()?.1, ids.len()).map_err(failed)?;
        let output = context.output(0, [offsets.texts().len(), self.encoder.width()])?;
        let mut output = output.ok_or_else(|| Error::new("ONNX Runtime provided no output tensor"))?;
        let pooled = output.try_extract_tensor_mut::<f32>()?.1;
        let workers = Workers { context, threads: self.shared.threads.get() };
        let excluded = input(context, 2)?;
        let excluded = excluded.try_extract_tensor::<i64>()?.1.iter().copied();
        let excluded: Vec<usize> =
            excluded.map(usize::try_from).collect::<std::result::Result<_, _>>().map_err(failed)?;
        if excluded.len() != offsets.texts().len() {
            return Err(Error::new("there must be one number of excluded tokens per text"));
        }
        let batch =
            Batch { kernels: self.shared.kernels, parallel: &workers, ids, offsets: &offsets, excluded: &excluded };
        self.encoder.forward(&batch, &mut self.buffers, pooled).map_err(failed)
    }
}

fn input(context: &ComputeContext, index: usize) -> Result<ValueRef<'_>> {
    context.input(index)?.ok_or_else(|| Error::new(format!("input {index} is missing")))
}

/// Turns a panic into an error, because a panic must not unwind into ONNX Runtime.
fn without_panic<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch(work).unwrap_or_else(|panic| Err(Error::new(panic)))
}

/// The result of `work`, or the message of its panic.
fn catch<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("a kernel panicked: {text}")
    })
}

/// Converts any error into ONNX Runtime's error type.
fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(catch(|| 1), Ok(1));
        assert_eq!(catch(|| -> i32 { panic!("formatted {}", 1) }), Err("a kernel panicked: formatted 1".to_owned()));
        assert_eq!(catch(|| -> i32 { panic!("plain") }), Err("a kernel panicked: plain".to_owned()));
    }
}
