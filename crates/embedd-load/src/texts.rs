//! The texts of requests: drawn from a list, or generated for each request.

use super::plan::Lengths;
use super::vocabulary::{Counter, Vocabulary, VocabularyError};

/// The first words of a text encode its number, with words as digits, so that all texts differ. This is the number of
/// digits.
const DIGITS: usize = 4;
/// The number of generated texts whose tokens the server counts before the test.
const CHECKED: usize = 64;

/// Generates texts with an exact number of tokens.
#[derive(Debug, Clone)]
pub(crate) struct Generator {
    vocabulary: Vocabulary,
    lengths: Lengths,
    random: fastrand::Rng,
    /// Added to the digits, so that different seeds give different texts.
    shifts: [usize; DIGITS],
    count: usize,
}

/// A text of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// The intended number of tokens; `None` if the text was given.
    pub(crate) tokens: Option<u32>,
}

/// The source of the texts of requests.
#[derive(Debug)]
pub(crate) enum Texts {
    /// Drawn at random from a list.
    Pool { texts: Vec<Text>, random: fastrand::Rng },
    /// Each text is new.
    Fresh(Generator),
}

/// The texts of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Draw {
    pub(crate) texts: Vec<String>,
    /// Their indices in the list; empty without a list.
    pub(crate) indices: Vec<usize>,
    /// The sum of their tokens; `None` if the texts were given.
    pub(crate) tokens: Option<u32>,
}

impl Generator {
    pub(crate) fn new(vocabulary: Vocabulary, lengths: Lengths, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let shifts = std::array::from_fn(|_| random.usize(..vocabulary.words().len()));
        Self { vocabulary, lengths, random, shifts, count: 0 }
    }

    /// Checks the lengths of some texts against the server's token counts.
    pub(crate) async fn check(&self, counter: &mut Counter) -> Result<(), VocabularyError> {
        let mut generator = self.clone();
        let texts: Vec<Text> = (0..CHECKED).map(|_| generator.generate()).collect();
        let counts = counter.count(&texts.iter().map(|text| text.text.clone()).collect::<Vec<_>>()).await?;
        for (text, counted) in texts.iter().zip(counts) {
            let expected = text.tokens.unwrap_or(counted);
            if expected != counted {
                return Err(VocabularyError::Sum { expected, counted });
            }
        }
        Ok(())
    }

    pub(crate) fn generate(&mut self) -> Text {
        let words = self.vocabulary.words();
        let tokens = self.random.u32(self.lengths.min..=self.lengths.max);
        let count = self.vocabulary.words_of(tokens);
        let mut text = String::with_capacity(count * 8);
        let mut number = self.count;
        for at in 0..count {
            let word = match self.shifts.get(at) {
                Some(shift) => words[(number + shift) % words.len()],
                None => words[self.random.usize(..words.len())],
            };
            number /= words.len();
            if at > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
        self.count += 1;
        Text { text, tokens: Some(tokens) }
    }
}

impl Texts {
    pub(crate) fn pool(texts: Vec<Text>, seed: u64) -> Self {
        Self::Pool { texts, random: fastrand::Rng::with_seed(seed) }
    }

    /// The texts of the next request.
    pub(crate) fn draw(&mut self, count: usize) -> Draw {
        let mut draw = Draw { texts: Vec::with_capacity(count), tokens: Some(0), ..Draw::default() };
        for _ in 0..count {
            let tokens = match self {
                Self::Fresh(generator) => {
                    let text = generator.generate();
                    draw.texts.push(text.text);
                    text.tokens
                }
                Self::Pool { texts, random } => {
                    let index = random.usize(..texts.len());
                    draw.indices.push(index);
                    draw.texts.push(texts[index].text.clone());
                    texts[index].tokens
                }
            };
            draw.tokens = draw.tokens.zip(tokens).map(|(sum, tokens)| sum + tokens);
        }
        draw
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn generator(min: u32, max: u32, seed: u64) -> Generator {
        Generator::new(Vocabulary::of_words(2), Lengths { min, max }, seed)
    }

    #[test]
    fn generated_texts_have_the_right_length_and_differ() {
        let mut generator = generator(11, 11, 3);
        let texts: HashSet<String> = (0..5000).map(|_| generator.generate().text).collect();
        assert_eq!(texts.len(), 5000);
        assert!(texts.iter().all(|text| text.split(' ').count() == 9));
    }

    #[test]
    fn short_texts_differ_until_all_words_are_used() {
        let mut generator = generator(3, 3, 3);
        let words = generator.vocabulary.words().len();
        let texts: HashSet<String> = (0..words).map(|_| generator.generate().text).collect();
        assert_eq!(texts.len(), words);
    }

    #[test]
    fn lengths_cover_their_range() {
        let mut generator = generator(2, 128, 1);
        let texts: Vec<Text> = (0..4000).map(|_| generator.generate()).collect();
        for text in &texts {
            assert_eq!(text.text.split_whitespace().count() as u32 + 2, text.tokens.expect("generated"));
        }
        let lengths: HashSet<u32> = texts.iter().filter_map(|text| text.tokens).collect();
        assert_eq!(lengths.len(), 127);
    }

    #[test]
    fn the_same_seed_gives_the_same_texts() {
        let of = |seed| {
            let mut texts = Texts::Fresh(generator(8, 64, seed));
            (0..10).flat_map(|_| texts.draw(2).texts).collect::<Vec<_>>()
        };
        assert_eq!(of(1), of(1));
        assert!(of(1).iter().all(|text| !of(2).contains(text)));
    }

    #[test]
    fn a_draw_from_a_list_has_the_indices() {
        let text = |text: &str, tokens| Text { text: text.to_owned(), tokens };
        let mut generated = Texts::pool(vec![text("a", Some(3)), text("b", Some(3))], 0);
        let draw = generated.draw(5);
        assert_eq!(draw.tokens, Some(15));
        let indices: Vec<usize> = draw.texts.iter().map(|text| usize::from(text == "b")).collect();
        assert_eq!(draw.indices, indices);
        let mut given = Texts::pool(vec![text("a", None)], 0);
        assert_eq!(given.draw(2), Draw { texts: vec!["a".into(), "a".into()], indices: vec![0, 0], tokens: None });
    }
}
