use super::*;
use crate::linear::tests::{Layer as TestLayer, layouts};
use crate::testing::{Numbers, Shuffled, by_build};
use crate::tiles::tests::PlainTiles;
use crate::{InstructionSet, Kernels, RowLayout, Serial};

fn run(
    on: impl HasTiles,
    parallel: &dyn Parallel,
    input: &[f32],
    layer: &TestLayer,
    activation: Option<Activation>,
) -> Vec<f32> {
    let weights = layer.weights();
    let kernels = Kernels::of(InstructionSet::Plain).expect("plain kernels");
    let mut output = vec![f32::NAN; input.len() / weights.layout.inputs * weights.outputs];
    let product = Layer { kernels, input, weights: &weights, activation };
    product.run_on_tiles(on, parallel, &mut Scratch::default(), &mut output);
    output
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn more_layouts() -> Vec<RowLayout> {
    let layout = |inputs, split, group| RowLayout { inputs, split, group };
    // Several parts, whose borders are within groups; groups whose channels are moved.
    [layouts(), vec![layout(1600, 16, 128), layout(200, 70, 65), layout(65, 0, 65), layout(300, 7, 30)]].concat()
}

/// The kernel with emulated registers. Runs on every CPU.
#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn products_match_an_oracle_at_every_size_around_the_tiles() {
    let mut numbers = Numbers::new(11);
    for layout in more_layouts() {
        for outputs in [1, 16, 17, 32, 33, 100] {
            let layer = TestLayer::random(layout, outputs, &mut numbers);
            for rows in [1, 15, 16, 17, 31, 32, 33, by_build(70, 40)] {
                let input = numbers.floats(rows * layout.inputs);
                let found = run(PlainTiles, &Serial, &input, &layer, None);
                for (found, expected) in found.iter().zip(layer.oracle_in_bf16(&input)) {
                    let is_close = (f64::from(*found) - expected).abs() < 1e-5 * (1.0 + expected.abs());
                    assert!(is_close, "{layout:?} {outputs} {rows}: {found} instead of {expected}");
                }
            }
        }
    }
}

/// 900 rows take more than one part of rows.
#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn a_row_has_the_same_bits_in_any_batch_for_any_number_of_threads() {
    let mut numbers = Numbers::new(12);
    let layout = RowLayout { inputs: 600, split: 16, group: 64 };
    let layer = TestLayer::random(layout, 160, &mut numbers);
    let rows = by_build(900, 100);
    let input = numbers.floats(rows * layout.inputs);
    let row = |row: usize| &input[row * layout.inputs..][..layout.inputs];
    let together = run(PlainTiles, &Serial, &input, &layer, Some(Activation::Gelu));
    for threads in [2, 5] {
        let parallel = Shuffled { threads, seed: 1 };
        let found = run(PlainTiles, &parallel, &input, &layer, Some(Activation::Gelu));
        assert_eq!(bits(&found), bits(&together), "{threads} threads");
    }
    for index in (0..rows).step_by(37).chain([rows - 1]) {
        let alone = run(PlainTiles, &Serial, row(index), &layer, Some(Activation::Gelu));
        assert_eq!(bits(&alone), bits(&together[index * 160..][..160]), "row {index}");
    }
}

/// With the vectors of any instruction set, a product has the same bits.
#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn instruction_sets_with_tiles_have_the_bits_of_the_emulation() {
    for set in [InstructionSet::AmxBf16, InstructionSet::EmulatedAmxBf16] {
        // Sets that this CPU does not support are reported by other tests.
        let Some(tiles) = Kernels::of(set).and_then(Kernels::tiles) else { continue };
        let mut numbers = Numbers::new(13);
        for layout in more_layouts() {
            let layer = TestLayer::random(layout, 100, &mut numbers);
            for rows in [1, 16, 33, 70] {
                let input = numbers.floats(rows * layout.inputs);
                let [found, expected] =
                    [run(tiles, &Serial, &input, &layer, None), run(PlainTiles, &Serial, &input, &layer, None)];
                assert_eq!(bits(&found), bits(&expected), "{set} {layout:?} {rows}");
            }
        }
    }
}

/// What is left in memory by a row of another batch does not matter, not even infinity.
#[test]
fn rows_that_only_fill_a_block_do_not_matter() {
    let mut numbers = Numbers::new(14);
    let layout = RowLayout { inputs: 35, split: 3, group: 17 };
    let layer = TestLayer::random(layout, 40, &mut numbers);
    let weights = layer.weights();
    let kernels = Kernels::of(InstructionSet::Plain).expect("plain kernels");
    let mut scratch = Scratch::default();
    let mut results = Vec::new();
    let input = numbers.floats(35);
    for input in [&input[..], &[f32::INFINITY; 20 * 35], &input] {
        let mut output = vec![0.0; input.len() / 35 * 40];
        let product = Layer { kernels, input, weights: &weights, activation: None };
        product.run_on_tiles(PlainTiles, &Serial, &mut scratch, &mut output);
        results.push(output);
    }
    assert_eq!(bits(&results[0]), bits(&results[2]));
}
