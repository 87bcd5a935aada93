//! The arithmetic of the native INT8 engine: a safe interface around the workspace's only unsafe code.
//!
//! Activations are float32 between kernels; a linear layer quantizes its own input. Texts are concatenated, not padded:
//! a matrix has one row per token, and [`Offsets`] mark where each text begins. A row's result depends only on that row
//! (in attention, on the rows of its text) and is computed in the same order for any number of rows and threads, so the
//! same text produces the same bits in every batch.

mod activation;
mod amx;
mod attention;
mod cpu;
mod disjoint;
mod elementwise;
mod instruction_set;
mod layout;
mod linear;
mod math;
mod memory;
mod multiply;
mod offsets;
mod parallel;
mod rotary;
mod simd;
#[cfg(test)]
mod testing;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other architecture has tiles"))]
mod tiles;

pub use activation::Activation;
pub use attention::{AttentionInput, DisentangledTables, Distances, Heads, Reach};
pub use cpu::{CpuInstructions, Feature};
pub use elementwise::{EmbeddingTables, Norm, NormKind, PoolingRule, PositionRule, TokenOutOfRange};
pub use instruction_set::InstructionSet;
pub use layout::{Group, InvalidWeights, LinearWeights, MAX_GROUP, MAX_SPLIT, PANEL, PackedShapes, RowLayout};
pub use linear::{Scratch, Second};
pub use memory::{PageBuffer, give_back_freed_memory, limit_arenas};
pub use offsets::{InvalidOffsets, Offsets};
pub use parallel::{Parallel, Serial};
pub use rotary::{HeadTransform, Rotations};

/// The kernels of one instruction set. A value of this type proves that this CPU supports the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels {
    set: InstructionSet,
}

impl Kernels {
    /// The kernels of the fastest instruction set that this CPU supports.
    pub fn best() -> Self {
        Self { set: InstructionSet::best() }
    }

    /// The kernels of `set`, or `None` if this CPU does not support it.
    pub fn of(set: InstructionSet) -> Option<Self> {
        set.is_available().then_some(Self { set })
    }

    /// The instruction set of these kernels.
    pub fn instruction_set(self) -> InstructionSet {
        self.set
    }
}
