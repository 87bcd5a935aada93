//! The arithmetic of the native INT8 engine: a safe interface, and behind it the only unsafe code of the crate.
//!
//! Activations are float32 between kernels; a linear layer quantises its input rows itself. Texts are concatenated,
//! not padded: `tokens` rows, and [`Offsets`] that say where each text begins. What a row becomes depends on that row
//! (in attention: on the rows of its text) alone, computed in one order whatever the number of rows and threads: the
//! same text gives the same bits in every batch.

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
mod simd;
#[cfg(test)]
mod testing;

pub use attention::{AttentionInput, DistanceBias};
pub use cpu::{CpuInstructions, Feature};
pub use elementwise::{EmbeddingTables, LayerNorm, PoolingRule, PositionRule, TokenOutOfRange};
pub use instruction_set::InstructionSet;
pub use layout::{Group, InvalidWeights, LinearWeights, MAX_SPLIT, PANEL, PackedShapes, RowLayout};
pub use linear::{Epilogue, Scratch};
pub use memory::{PageBuffer, give_back_freed_memory};
pub use offsets::{InvalidOffsets, Offsets};
pub use parallel::{Parallel, Serial};

/// The kernels of one instruction set that this CPU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels {
    set: InstructionSet,
}

impl Kernels {
    /// Those of the fastest instruction set of this CPU.
    pub fn best() -> Self {
        Self { set: InstructionSet::best() }
    }

    /// Those of `set`; `None` where this CPU lacks it.
    pub fn of(set: InstructionSet) -> Option<Self> {
        set.is_available().then_some(Self { set })
    }

    /// Which they are.
    pub fn instruction_set(self) -> InstructionSet {
        self.set
    }
}
