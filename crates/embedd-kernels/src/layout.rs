//! The memory layout of quantized activations and packed weights.

use std::ops::Range;

/// Output columns per panel of packed weights.
pub const PANEL: usize = 32;
/// The maximum number of outlier channels: the sum of their 16-bit by 8-bit products must fit in 32 bits.
pub const MAX_SPLIT: usize = 256;
/// The maximum number of other channels that share a scale: the sum of their products of an unsigned and a signed byte
/// must fit in 32 bits.
pub const MAX_GROUP: usize = i32::MAX as usize / (u8::MAX as usize * 128);
/// Products that one dot product instruction adds up per column.
pub(super) const QUAD: usize = 4;

/// How a linear layer's input activations are quantized: to unsigned bytes, with a scale and a zero point for each row
/// and group of channels.
///
/// The first `split` channels are outlier channels. They form a group of their own and get 16 bits each, stored as the
/// high bytes of all outlier channels, followed by their low bytes. The other channels get 8 bits each, in groups of
/// `group` channels; the last group may be shorter. In a quantized row, each group begins at a multiple of 4 bytes, as
/// do the low bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLayout {
    /// The number of channels of a row.
    pub inputs: usize,
    /// The number of outlier channels, which come first; at most [`MAX_SPLIT`].
    pub split: usize,
    /// The number of channels per group, for channels that are not outliers.
    pub group: usize,
}

/// Channels of a row that share a scale and a zero point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The channels in the float row.
    pub channels: Range<usize>,
    /// The bytes in the quantized row: one per channel, padded with zeros to a multiple of 4. The group of outlier
    /// channels has two such halves.
    pub bytes: Range<usize>,
    /// Whether these are the outlier channels, with 16 bits each.
    pub split: bool,
}

impl Group {
    /// The positions in the quantized row of the bytes of the group's `offset`-th channel: two for outlier channels,
    /// otherwise one. Both bytes use the same weight.
    pub fn places(&self, offset: usize) -> impl Iterator<Item = usize> + use<> {
        self.halves().map(move |start| start + offset)
    }

    /// The high bytes of outlier channels; all bytes of other groups.
    pub(super) fn half(&self) -> Range<usize> {
        let halves = 1 + usize::from(self.split);
        self.bytes.start..self.bytes.start + self.bytes.len() / halves
    }

    /// Where the high bytes begin, and where the low bytes begin, if there are any.
    pub(super) fn halves(&self) -> impl Iterator<Item = usize> + use<> {
        std::iter::once(self.bytes.start).chain(self.split.then(|| self.half().end))
    }
}

impl RowLayout {
    /// All groups, in the order of the quantized row.
    pub fn groups(&self) -> Vec<Group> {
        self.padded_groups(QUAD)
    }

    /// Like [`RowLayout::groups`], for rows in which each group, and the low bytes, begin at a multiple of `padding`
    /// bytes.
    pub(super) fn padded_groups(&self, padding: usize) -> Vec<Group> {
        let mut groups = Vec::with_capacity(self.group_count());
        let mut start = 0;
        let mut add = |channels: Range<usize>, split: bool| {
            let half = channels.len().next_multiple_of(padding);
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

    /// The number of groups.
    pub fn group_count(&self) -> usize {
        usize::from(self.split > 0) + (self.inputs - self.split).div_ceil(self.group)
    }

    /// The length of a quantized row in bytes; a multiple of 4.
    pub fn row_bytes(&self) -> usize {
        let rest = self.inputs - self.split;
        let whole_groups = rest / self.group * self.group.next_multiple_of(QUAD);
        2 * self.split.next_multiple_of(QUAD) + whole_groups + (rest % self.group).next_multiple_of(QUAD)
    }

    /// The shapes of the packed tensors of a layer with this input layout and `outputs` output channels.
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
    /// float32 `[panels, groups, 2, 32]`: for each group and column, the scale of the integers and the zero-point term,
    /// which is the scale times the sum of the group's integers in the column.
    pub scales: [usize; 4],
    /// float32 `[panels, 32]`.
    pub bias: [usize; 2],
}

/// The borrowed, packed weights of a linear layer, `y = W x + bias`.
///
/// Output column `n` is column `n % 32` of panel `n / 32`. Padding columns are 0.
#[derive(Debug, Clone, Copy)]
pub struct LinearWeights<'a> {
    pub(super) layout: RowLayout,
    pub(super) outputs: usize,
    pub(super) weights: &'a [i8],
    pub(super) scales: &'a [f32],
    pub(super) bias: &'a [f32],
}

/// Why tensors do not form a valid linear layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWeights {
    /// With this many outlier channels, the integer sums could overflow.
    #[error("a linear layer has {split} outlier channels; the maximum is {MAX_SPLIT}")]
    Split {
        /// The number of outlier channels.
        split: usize,
    },
    /// With this many channels in a group, the integer sums could overflow.
    #[error("a linear layer has groups of {group} channels; the maximum is {MAX_GROUP}")]
    Group {
        /// The number of channels of the largest group.
        group: usize,
    },
    /// A tensor's length does not match its shape.
    #[error("the {tensor} tensor of a linear layer has {found} elements; expected {expected}")]
    Length {
        /// `weights`, `scales` or `bias`.
        tensor: &'static str,
        /// The number of elements in the tensor.
        found: usize,
        /// The number of elements in its shape.
        expected: usize,
    },
}

impl<'a> LinearWeights<'a> {
    /// Checks that the tensors have the shapes of [`RowLayout::packed_shapes`].
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
        let group = layout.group.min(layout.inputs.saturating_sub(layout.split));
        if group > MAX_GROUP {
            return Err(InvalidWeights::Group { group });
        }
        let shapes = layout.packed_shapes(outputs);
        expect("weights", weights.len(), &shapes.weights)?;
        expect("scales", scales.len(), &shapes.scales)?;
        expect("bias", bias.len(), &shapes.bias)?;
        Ok(Self { layout, outputs, weights, scales, bias })
    }

    /// The index of the weight for byte `byte` of a quantized row and output column `output` in the packed weights.
    pub fn weight_index(row_bytes: usize, byte: usize, output: usize) -> usize {
        let panel = output / PANEL;
        let column = output % PANEL;
        (panel * row_bytes + byte / QUAD * QUAD) * PANEL + column * QUAD + byte % QUAD
    }

    /// The index of the scale for `group` and output column `output`; the zero-point term is 32 elements later.
    pub fn scale_index(groups: usize, group: usize, output: usize) -> usize {
        let panel = output / PANEL;
        let column = output % PANEL;
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
    fn a_row_begins_with_the_high_and_low_bytes_of_its_outlier_channels() {
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
    fn the_length_of_a_row_is_the_sum_of_its_groups() {
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
    fn mismatched_tensors_and_too_many_outlier_channels_are_rejected() {
        let layer = |split: usize, bias: usize| {
            let layout = RowLayout { inputs: 300, split, group: 4 };
            let shapes = layout.packed_shapes(1);
            let weights = shapes.weights.iter().product();
            let scales = shapes.scales.iter().product();
            let weights = vec![0; weights];
            let scales = vec![0.0; scales];
            let bias = vec![0.0; bias];
            LinearWeights::new(layout, 1, &weights, &scales, &bias).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(layer(256, 32), Ok(()));
        let split = "a linear layer has 257 outlier channels; the maximum is 256";
        assert_eq!(layer(257, 32), Err(split.to_owned()));
        let length = "the bias tensor of a linear layer has 31 elements; expected 32";
        assert_eq!(layer(256, 31), Err(length.to_owned()));
    }

    /// One more channel with the extreme values 255 and -128 would overflow.
    #[test]
    fn groups_whose_sums_could_overflow_are_rejected() {
        assert_eq!(MAX_GROUP, 65_793);
        assert!((MAX_GROUP as i64) * 255 * -128 >= i64::from(i32::MIN));
        assert!((MAX_GROUP as i64 + 1) * 255 * 128 > i64::from(i32::MAX));
        let layer = |inputs: usize, group: usize| {
            let layout = RowLayout { inputs, split: 0, group };
            let shapes = layout.packed_shapes(1);
            let weights = vec![0; shapes.weights.iter().product()];
            let scales = vec![0.0; shapes.scales.iter().product()];
            LinearWeights::new(layout, 1, &weights, &scales, &[0.0; PANEL]).map(|_| ())
        };
        assert_eq!(layer(MAX_GROUP, MAX_GROUP), Ok(()));
        assert_eq!(layer(100, usize::MAX >> 1), Ok(()), "a group has no more channels than the layer");
        assert_eq!(layer(MAX_GROUP + 1, MAX_GROUP), Ok(()), "two groups");
        assert_eq!(layer(MAX_GROUP + 1, MAX_GROUP + 1), Err(InvalidWeights::Group { group: MAX_GROUP + 1 }));
    }
}
