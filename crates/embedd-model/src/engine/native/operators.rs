//! The custom operators of native graphs, in the domain `embedd`.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use ort::Error;
use ort::operator::{
    ComputeContext, FromKernelContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::value::{TensorElementType, ValueRef};

use super::weights::NativeWeights;
use super::workers::Workers;
use crate::bundle::native_io::DOMAIN;
use embedd_kernels::{Kernels, Offsets, Scratch};

mod attention;
mod embed;
mod linear;
mod pool;

/// The state that the kernels of one session share.
#[derive(Debug)]
pub(super) struct Shared {
    weights: Arc<NativeWeights>,
    kernels: Kernels,
    threads: NonZeroUsize,
    /// Never contended, because a session runs its nodes one at a time.
    scratch: Mutex<Scratch>,
}

impl Shared {
    pub(super) fn new(weights: Arc<NativeWeights>, kernels: Kernels, threads: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self { weights, kernels, threads, scratch: Mutex::default() })
    }

    pub(super) fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn workers<'c>(&self, context: &'c ComputeContext) -> Workers<'c> {
        Workers { context, threads: self.threads.get() }
    }

    fn scratch(&self) -> MutexGuard<'_, Scratch> {
        self.scratch.lock().unwrap_or_else(|poisoned| {
            // A panic may have left the memory half written, so replace it.
            self.scratch.clear_poison();
            let mut scratch = poisoned.into_inner();
            *scratch = Scratch::default();
            scratch
        })
    }
}

/// Creates the operators for one session.
pub(super) fn domain(shared: &Arc<Shared>) -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(Registered::<embed::Embed>::new(shared))?
        .add(Registered::<linear::QuantizedLinear>::new(shared))?
        .add(Registered::<attention::Attention>::new(shared))?
        .add(Registered::<pool::Pool>::new(shared))
}

/// The operation of a graph node.
trait Operation: Send + Sized + 'static {
    const NAME: &'static str;

    fn inputs() -> Vec<OperatorInput>;

    /// Reads the node's attributes and finds its weights.
    ///
    /// # Errors
    /// If an attribute or a tensor is missing or invalid.
    fn create(node: &Node<'_>, weights: &NativeWeights) -> Result<Self, Error>;

    /// Computes the node's single output, float32.
    fn compute(&self, shared: &Shared, context: &ComputeContext) -> ort::Result<()>;
}

const TOKENS: OperatorInput = OperatorInput::required(TensorElementType::Int64);
const HIDDEN_STATES: OperatorInput = OperatorInput::required(TensorElementType::Float32);
const RESIDUAL: OperatorInput = OperatorInput::optional(TensorElementType::Float32);

/// A node's attributes.
struct Node<'k> {
    context: &'k KernelContext<'k>,
    name: String,
}

impl<'k> Node<'k> {
    fn find<T: FromKernelContext<'k>>(&self, attribute: &str) -> Option<T> {
        self.context.get(attribute)
    }

    fn attribute<T: FromKernelContext<'k>>(&self, attribute: &str) -> Result<T, Error> {
        self.find(attribute)
            .ok_or_else(|| self.error(format!("attribute `{attribute}` is missing or has the wrong type")))
    }

    /// A non-negative integer attribute.
    fn count(&self, attribute: &str) -> Result<usize, Error> {
        let count: i64 = self.attribute(attribute)?;
        usize::try_from(count)
            .map_err(|_| self.error(format!("attribute `{attribute}` must not be negative, but is {count}")))
    }

    fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::new(format!("node {}: {reason}", self.name))
    }
}

/// Registers an operation with ONNX Runtime.
struct Registered<O> {
    shared: Arc<Shared>,
    operation: PhantomData<fn() -> O>,
}

impl<O> Registered<O> {
    fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), operation: PhantomData }
    }
}

impl<O: Operation> Operator for Registered<O> {
    type Kernel<'attr> = Guarded<O>;

    fn name(&self) -> &str {
        O::NAME
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        O::inputs()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Guarded<O>> {
        without_panic(|| {
            let node = Node { context, name: context.node_name()? };
            let operation = O::create(&node, &self.shared.weights)?;
            Ok(Guarded { operation, shared: Arc::clone(&self.shared) })
        })
    }
}

/// Turns panics of an operation into errors, because a panic must not unwind into ONNX Runtime.
struct Guarded<O> {
    operation: O,
    shared: Arc<Shared>,
}

impl<O: Operation> Kernel for Guarded<O> {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        without_panic(|| self.operation.compute(&self.shared, context))
    }
}

fn without_panic<T>(work: impl FnOnce() -> ort::Result<T>) -> ort::Result<T> {
    catch(work).unwrap_or_else(|panic| Err(Error::new(panic)))
}

/// The result of `work`, or the message of its panic.
fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
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

fn input(context: &ComputeContext, index: usize) -> ort::Result<ValueRef<'_>> {
    context.input(index)?.ok_or_else(|| Error::new(format!("input {index} is missing")))
}

/// The values of a float32 matrix with `columns` columns.
fn rows<'v>(value: &'v ValueRef<'_>, columns: usize) -> ort::Result<&'v [f32]> {
    let (shape, values) = value.try_extract_tensor::<f32>()?;
    match shape[..] {
        [_, found] if usize::try_from(found) == Ok(columns) => Ok(values),
        _ => Err(Error::new(format!("an input has shape {shape}; expected [_, {columns}]"))),
    }
}

fn offsets(value: &ValueRef<'_>, tokens: usize) -> ort::Result<Offsets> {
    Offsets::new(value.try_extract_tensor::<i64>()?.1, tokens).map_err(failed)
}

/// Allocates the output, float32 `[rows, columns]`, and calls `fill` with it.
fn output(
    context: &ComputeContext,
    rows: usize,
    columns: usize,
    fill: impl FnOnce(&mut [f32]) -> ort::Result<()>,
) -> ort::Result<()> {
    let value = context.output(0, [rows, columns])?;
    let mut value = value.ok_or_else(|| Error::new("ONNX Runtime provided no output tensor"))?;
    fill(value.try_extract_tensor_mut::<f32>()?.1)
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
