//! The texts of requests: drawn from a list, or made, each another one.

use super::plan::Lengths;
use super::vocabulary::{Counter, Vocabulary, VocabularyError};

/// So many words of a text are its number, written with words as digits: texts differ as long as they last.
const DIGITS: usize = 4;
/// Made texts whose tokens are counted by the server before any is used for a measurement.
const COUNTED: usize = 64;

/// Makes texts of exact numbers of tokens.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    vocabulary: Vocabulary,
    lengths: Lengths,
    random: fastrand::Rng,
    /// Added to each digit, so that other seeds give other texts.
    shifts: [usize; DIGITS],
    made: usize,
}

/// A text of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    /// The tokens that it was made of; none where it was given.
    pub(super) tokens: Option<u32>,
}

/// Where requests take their texts from.
#[derive(Debug)]
pub(super) enum Texts {
    /// At random from a list.
    Pool { texts: Vec<Text>, random: fastrand::Rng },
    /// Each another one.
    Fresh(Maker),
}

/// The texts of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Draw {
    pub(super) texts: Vec<String>,
    /// Their places in the list; empty where there is none.
    pub(super) places: Vec<usize>,
    /// The tokens of them all; none where they were given.
    pub(super) tokens: Option<u32>,
}

impl Maker {
    pub(super) fn new(vocabulary: Vocabulary, lengths: Lengths, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let shifts = std::array::from_fn(|_| random.usize(..vocabulary.words().len()));
        Self { vocabulary, lengths, random, shifts, made: 0 }
    }

    /// Has the server count some texts, so that no wrong length is measured.
    pub(super) async fn check(&self, counter: &mut Counter) -> Result<(), VocabularyError> {
        let mut maker = self.clone();
        let texts: Vec<Text> = (0..COUNTED).map(|_| maker.make()).collect();
        let counts = counter.count(&texts.iter().map(|text| text.text.clone()).collect::<Vec<_>>()).await?;
        for (text, counted) in texts.iter().zip(counts) {
            let wanted = text.tokens.unwrap_or(counted);
            if wanted != counted {
                return Err(VocabularyError::NoSum { wanted, counted });
            }
        }
        Ok(())
    }

    pub(super) fn make(&mut self) -> Text {
        let words = self.vocabulary.words();
        let tokens = self.random.u32(self.lengths.least..=self.lengths.most);
        let count = self.vocabulary.words_of(tokens);
        let mut text = String::with_capacity(count * 8);
        let mut number = self.made;
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
        self.made += 1;
        Text { text, tokens: Some(tokens) }
    }
}

impl Texts {
    pub(super) fn pool(texts: Vec<Text>, seed: u64) -> Self {
        Self::Pool { texts, random: fastrand::Rng::with_seed(seed) }
    }

    /// The texts of the next request.
    pub(super) fn draw(&mut self, count: usize) -> Draw {
        let mut draw = Draw { texts: Vec::with_capacity(count), tokens: Some(0), ..Draw::default() };
        for _ in 0..count {
            let tokens = match self {
                Self::Fresh(maker) => {
                    let text = maker.make();
                    draw.texts.push(text.text);
                    text.tokens
                }
                Self::Pool { texts, random } => {
                    let place = random.usize(..texts.len());
                    draw.places.push(place);
                    draw.texts.push(texts[place].text.clone());
                    texts[place].tokens
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

    fn maker(least: u32, most: u32, seed: u64) -> Maker {
        Maker::new(Vocabulary::of_words(2), Lengths { least, most }, seed)
    }

    #[test]
    fn made_texts_have_their_words_and_differ() {
        let mut maker = maker(11, 11, 3);
        let texts: HashSet<String> = (0..5000).map(|_| maker.make().text).collect();
        assert_eq!(texts.len(), 5000);
        assert!(texts.iter().all(|text| text.split(' ').count() == 9));
    }

    #[test]
    fn short_texts_differ_as_long_as_there_are_words() {
        let mut maker = maker(3, 3, 3);
        let words = maker.vocabulary.words().len();
        let texts: HashSet<String> = (0..words).map(|_| maker.make().text).collect();
        assert_eq!(texts.len(), words);
    }

    #[test]
    fn lengths_are_spread_over_their_range() {
        let mut maker = maker(2, 128, 1);
        let texts: Vec<Text> = (0..4000).map(|_| maker.make()).collect();
        for text in &texts {
            assert_eq!(text.text.split_whitespace().count() as u32 + 2, text.tokens.expect("made"));
        }
        let lengths: HashSet<u32> = texts.iter().filter_map(|text| text.tokens).collect();
        assert_eq!(lengths.len(), 127);
    }

    #[test]
    fn a_seed_repeats_the_texts() {
        let of = |seed| {
            let mut texts = Texts::Fresh(maker(8, 64, seed));
            (0..10).flat_map(|_| texts.draw(2).texts).collect::<Vec<_>>()
        };
        assert_eq!(of(1), of(1));
        assert!(of(1).iter().all(|text| !of(2).contains(text)));
    }

    #[test]
    fn a_draw_from_a_list_tells_the_places() {
        let text = |text: &str, tokens| Text { text: text.to_owned(), tokens };
        let mut made = Texts::pool(vec![text("a", Some(3)), text("b", Some(3))], 0);
        let draw = made.draw(5);
        assert_eq!(draw.tokens, Some(15));
        let places: Vec<usize> = draw.texts.iter().map(|text| usize::from(text == "b")).collect();
        assert_eq!(draw.places, places);
        let mut given = Texts::pool(vec![text("a", None)], 0);
        assert_eq!(given.draw(2), Draw { texts: vec!["a".into(), "a".into()], places: vec![0, 0], tokens: None });
    }
}
