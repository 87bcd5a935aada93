use super::model::Model;
use super::*;
use crate::linear::tests::{Layer, layouts, run};
use crate::linear::{self, Scratch};
use crate::simd::plain::Plain;
use crate::testing::{Numbers, Shuffled, by_build};
use crate::{Activation, InstructionSet, Kernels, RowLayout, Serial};

/// The matrix kernel, with a model of its registers, has the bits of the other kernel. Runs on every CPU.
#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn matrix_products_have_the_bits_of_other_products() {
    let kernels = Kernels::of(InstructionSet::Plain).expect("plain kernels");
    let mut numbers = Numbers::new(8);
    let layout = |inputs, split, group| RowLayout { inputs, split, group };
    // More than one part of the groups; a last step that reads past the end of the weights.
    let more = [layout(1600, 16, 128), layout(200, 70, 65), layout(65, 0, 65)];
    for layout in layouts().into_iter().chain(more) {
        for outputs in [1, 16, 17, 32, 33, 100] {
            let layer = Layer::random(layout, outputs, &mut numbers);
            for rows in [1, 15, 16, 17, 33, by_build(300, 50)] {
                let input = numbers.floats(rows * layout.inputs);
                let activation = (rows % 2 == 0).then_some(Activation::Gelu);
                let expected = run(kernels, &Serial, &input, &layer, activation);
                for threads in [1, 3] {
                    let parallel = Shuffled { threads, seed: rows as u64 };
                    let mut found = vec![f32::NAN; rows * outputs];
                    let run = |task: Task<'_>| task.run_on_matrices(Plain, Model::new());
                    let product = linear::Layer { kernels, input: &input, weights: &layer.weights(), activation };
                    product.run(&parallel, kernel(&run), &mut Scratch::default(), &mut found);
                    assert_eq!(found, expected, "{layout:?}: {rows} rows, {outputs} outputs, {threads} threads");
                }
            }
        }
    }
}
