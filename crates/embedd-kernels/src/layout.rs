//! How quantised rows and weights lie in memory.

use std::ops::Range;

/// Output columns of one panel of packed weights.
pub const PANEL: usize = 32;
/// Channels that may be split at most: their sum of products of 16 and 8 bits must fit 32.
pub const MAX_SPLIT: usize = 256;
/// Integers along K that one dot product instruction takes.
pub(super) const QUAD: usize = 4;

/// How the rows of a linear layer's input are quantised: to unsigned bytes, a scale and a zero point for each row and
/// group of channels.
///
/// The first `split` channels, in a group of their own, get 16 bits each: first the high bytes of all of them, then the
/// low ones. The others get 8 bits, in groups of `group` channels, of which the last may be shorter. In a quantised row
/// each group, and the low bytes, begin at a multiple of 4 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLayout {
    /// Channels of a row.
    pub inputs: usize,
    /// How many of them, the first ones, get 16 bits; at most [`MAX_SPLIT`].
    pub split: usize,
    /// Channels of a group of the others.
    pub group: usize,
}

/// Channels of a row that share a scale and a zero point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The channels in the float row.
    pub channels: Range<usize>,
    /// The bytes in the quantised row: as many as channels (twice as many where they are split), up to a multiple of 4;
    /// what is beyond is 0.
    pub bytes: Range<usize>,
    /// Whether the channels have 16 bits.
    pub split: bool,
}

impl Group {
    /// The bytes of the `offset`-th channel of the group in the quantised row; the same weight belongs to each.
    pub fn places(&self, offset: usize) -> impl Iterator<Item = usize> + use<> {
        let low = self.split.then(|| self.half().end + offset);
        std::iter::once(self.bytes.start + offset).chain(low)
    }

    /// Where the high bytes are, if the group is split; else all bytes.
    pub(super) fn half(&self) -> Range<usize> {
        let halves = 1 + usize::from(self.split);
        self.bytes.start..self.bytes.start + self.bytes.len() / halves
    }
}

impl RowLayout {
    /// Every group, in the order of the quantised row.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups = Vec::with_capacity(self.group_count());
        let mut start = 0;
        let mut add = |channels: Range<usize>, split: bool| {
            let half = channels.len().next_multiple_of(QUAD);
            let bytes = start..start + half * (1 + usize::from(split));
            start = bytes.end;
            groups.push(Group { channels, bytes, split });
        };
        if self.split > 0 {
            add(0..self.split, true);
        }
        let mut first = self.split;
        while first < self.inputs {
            let end = (first + self.group).min(self.inputs);
            add(first..end, false);
            first = end;
        }
        groups
    }

    /// How many groups there are.
    pub fn group_count(&self) -> usize {
        usize::from(self.split > 0) + (self.inputs - self.split).div_ceil(self.group)
    }

    /// Bytes of a quantised row; a multiple of 4.
    pub fn row_bytes(&self) -> usize {
        let rest = self.inputs - self.split;
        let whole_groups = rest / self.group * self.group.next_multiple_of(QUAD);
        2 * self.split.next_multiple_of(QUAD) + whole_groups + (rest % self.group).next_multiple_of(QUAD)
    }

    /// Of the packed tensors of a layer that takes such rows and has so many outputs.
    pub fn packed_shapes(&self, outputs: usize) -> PackedShapes {
        let panels = outputs.div_ceil(PANEL);
        PackedShapes {
            weights: [panels, self.row_bytes() / QUAD, PANEL, QUAD],
            scales: [panels, self.group_count(), 2, PANEL],
            bias: [panels, PANEL],
        }
    }
}

/// The shapes of a linear layer's packed tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedShapes {
    /// int8 `[panels, row_bytes / 4, 32, 4]`: see [`LinearWeights::weight_index`].
    pub weights: [usize; 4],
    /// float32 `[panels, groups, 2, 32]`: for each group and column the scale of its integers, and that scale times the
    /// sum of the group's integers in the column (what a zero point of 1 adds).
    pub scales: [usize; 4],
    /// float32 `[panels, 32]`.
    pub bias: [usize; 2],
}

/// A linear layer's weights as the kernels read them, borrowed: `y = W x + bias`.
///
/// For an output column `n`, its panel is `n / 32` and its place in the panel `n % 32`. Columns beyond the last output
/// are 0.
#[derive(Debug, Clone, Copy)]
pub struct LinearWeights<'a> {
    pub(super) layout: RowLayout,
    pub(super) outputs: usize,
    pub(super) weights: &'a [i8],
    pub(super) scales: &'a [f32],
    pub(super) bias: &'a [f32],
}

/// Why there is no linear layer of some tensors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWeights {
    /// Sums of products with so many channels may not fit their integers.
    #[error("{split} channels of a linear layer's input are split, and at most {MAX_SPLIT} may be")]
    Split {
        /// Channels that get 16 bits.
        split: usize,
    },
    /// A tensor's length does not fit the shapes that it comes with.
    #[error("a linear layer's {tensor} has {found} elements, and {expected} are needed")]
    Length {
        /// Which tensor.
        tensor: &'static str,
        /// Its elements.
        found: usize,
        /// How many its shape needs.
        expected: usize,
    },
}

impl<'a> LinearWeights<'a> {
    /// The tensors have the shapes that [`RowLayout::packed_shapes`] tells.
    ///
    /// # Errors
    /// [`InvalidWeights`].
    pub fn new(
        layout: RowLayout,
        outputs: usize,
        weights: &'a [i8],
        scales: &'a [f32],
        bias: &'a [f32],
    ) -> Result<Self, InvalidWeights> {
        if layout.split > MAX_SPLIT {
            return Err(InvalidWeights::Split { split: layout.split });
        }
        let shapes = layout.packed_shapes(outputs);
        expect("weights", weights.len(), &shapes.weights)?;
        expect("scales", scales.len(), &shapes.scales)?;
        expect("bias", bias.len(), &shapes.bias)?;
        Ok(Self { layout, outputs, weights, scales, bias })
    }

    /// Where the integer for byte `byte` of a quantised row and for `output` lies in the packed weights.
    pub fn weight_index(row_bytes: usize, byte: usize, output: usize) -> usize {
        let (panel, column) = (output / PANEL, output % PANEL);
        (panel * row_bytes + byte / QUAD * QUAD) * PANEL + column * QUAD + byte % QUAD
    }

    /// Where the scale of `group` for `output` lies in the scales; what a zero point of 1 adds lies 32 behind.
    pub fn scale_index(groups: usize, group: usize, output: usize) -> usize {
        let (panel, column) = (output / PANEL, output % PANEL);
        (panel * groups + group) * 2 * PANEL + column
    }

    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }
}

fn expect(tensor: &'static str, found: usize, shape: &[usize]) -> Result<(), InvalidWeights> {
    let expected = shape.iter().product();
    if found == expected { Ok(()) } else { Err(InvalidWeights::Length { tensor, found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_begins_with_the_halves_of_its_split_channels() {
        let layout = RowLayout { inputs: 30, split: 6, group: 16 };
        let expected = [(0..6, 0..16), (6..22, 16..32), (22..30, 32..40)];
        let groups: Vec<_> = layout.groups().into_iter().map(|group| (group.channels, group.bytes)).collect();
        assert_eq!(groups, expected);
        assert_eq!((layout.group_count(), layout.row_bytes()), (3, 40));
        let places = |group: usize, offset| layout.groups()[group].places(offset).collect::<Vec<_>>();
        assert_eq!((places(0, 5), places(1, 0)), (vec![5, 13], vec![16]));
        let whole = RowLayout { inputs: 30, split: 0, group: 30 };
        assert_eq!((whole.group_count(), whole.row_bytes()), (1, 32));
    }

    #[test]
    fn a_row_is_as_long_as_its_groups_together() {
        for inputs in 1..70 {
            for split in 0..=inputs {
                for group in [1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 64, 100] {
                    let layout = RowLayout { inputs, split, group };
                    let groups = layout.groups();
                    assert_eq!(Some(layout.row_bytes()), groups.last().map(|group| group.bytes.end), "{layout:?}");
                    assert_eq!(layout.group_count(), groups.len(), "{layout:?}");
                }
            }
        }
    }

    #[test]
    fn tensors_that_do_not_fit_and_a_split_that_is_too_wide_are_told_of() {
        let layer = |split: usize, bias: usize| {
            let layout = RowLayout { inputs: 300, split, group: 4 };
            let shapes = layout.packed_shapes(1);
            let (weights, scales) = (shapes.weights.iter().product(), shapes.scales.iter().product());
            let (weights, scales, bias) = (vec![0; weights], vec![0.0; scales], vec![0.0; bias]);
            LinearWeights::new(layout, 1, &weights, &scales, &bias).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(layer(256, 32), Ok(()));
        let split = "257 channels of a linear layer's input are split, and at most 256 may be";
        assert_eq!(layer(257, 32), Err(split.to_owned()));
        let length = "a linear layer's bias has 31 elements, and 32 are needed";
        assert_eq!(layer(256, 31), Err(length.to_owned()));
    }
}
