//! Words that are one token each to the server's model, so that texts of an exact number of tokens can be made of them.

use tonic::Status;

use embedd_client::Connection;
use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use embedd_proto::{CountTokensRequest, TokenCount};

/// Common words, one behind the other.
const WORDS: &str = include_str!("words.txt");
/// A word stands behind this one, too, when its tokens are counted: tokenisers treat the first word as a special case.
const FIRST: &str = "the";
/// Fewer words make texts that are too much alike.
const LEAST: usize = 64;
/// Texts of one CountTokens call: every server takes so many.
const COUNTED_AT_ONCE: usize = 64;

/// Why there are no texts of an exact number of tokens.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// CountTokens failed.
    #[error("CountTokens of {server}: {} ({})", .status.message(), super::wire::code_name(.status.code()))]
    Call {
        /// The server.
        server: String,
        /// What it said.
        status: Box<Status>,
    },
    /// Its reply does not fit its request.
    #[error("CountTokens gave {given} counts for {asked} texts")]
    Counts {
        /// Texts of the request.
        asked: usize,
        /// Counts of the reply.
        given: usize,
    },
    /// The model's tokeniser is not made for these words.
    #[error("only {found} of {tried} common English words are one token to this model; give texts with --texts FILE")]
    Words {
        /// Words of one token.
        found: usize,
        /// Words that were counted.
        tried: usize,
    },
    /// Counts of words do not add up to the count of their text.
    #[error(
        "this model gives a text of {wanted} words and special tokens {counted} tokens; give texts with --texts FILE"
    )]
    NoSum {
        /// The sum.
        wanted: u32,
        /// What the server counts.
        counted: u32,
    },
}

/// Words of one token each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vocabulary {
    words: Vec<&'static str>,
    /// Tokens of an empty text.
    special: u32,
}

impl Vocabulary {
    /// What remains of the common words where the server counts them.
    pub(super) async fn of_server(counter: &mut Counter) -> Result<Self, VocabularyError> {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let behind = words.iter().map(|word| format!("{FIRST} {word}"));
        let texts: Vec<String> =
            ["".to_owned(), FIRST.to_owned()].into_iter().chain(words.iter().map(|&word| word.to_owned())).collect();
        let (alone, behind) = (counter.count(&texts).await?, counter.count(&behind.collect::<Vec<_>>()).await?);
        Self::of_counts(&words, alone[0], alone[1], &alone[2..], &behind)
    }

    /// `first` are the tokens of [`FIRST`], `alone` those of each word, `behind` those of each behind [`FIRST`].
    fn of_counts(
        words: &[&'static str],
        special: u32,
        first: u32,
        alone: &[u32],
        behind: &[u32],
    ) -> Result<Self, VocabularyError> {
        let counts = alone.iter().zip(behind);
        let single = |(alone, behind): (&u32, &u32)| *alone == special + 1 && *behind == first + 1;
        let words: Vec<&str> =
            words.iter().zip(counts).filter(|(_, counts)| single(*counts)).map(|(word, _)| *word).collect();
        if words.len() < LEAST {
            return Err(VocabularyError::Words { found: words.len(), tried: alone.len() });
        }
        Ok(Self { words, special })
    }

    pub(super) fn words(&self) -> &[&'static str] {
        &self.words
    }

    /// Words of a text of so many tokens; none where the special tokens alone are as many.
    pub(super) fn words_of(&self, tokens: u32) -> usize {
        tokens.saturating_sub(self.special) as usize
    }

    /// The fewest tokens of a text.
    pub(super) fn special(&self) -> u32 {
        self.special
    }

    #[cfg(test)]
    pub(super) fn of_words(special: u32) -> Self {
        Self { words: WORDS.split_whitespace().collect(), special }
    }
}

/// Counts tokens by the server.
pub(super) struct Counter {
    client: EmbeddingServiceClient<Connection>,
    server: String,
}

impl Counter {
    pub(super) fn new(client: EmbeddingServiceClient<Connection>, server: &str) -> Self {
        Self { client, server: server.to_owned() }
    }

    pub(super) async fn count(&mut self, texts: &[String]) -> Result<Vec<u32>, VocabularyError> {
        let mut counts = Vec::with_capacity(texts.len());
        for texts in texts.chunks(COUNTED_AT_ONCE) {
            let request = CountTokensRequest { texts: texts.to_vec() };
            let reply = self
                .client
                .count_tokens(request)
                .await
                .map_err(|status| VocabularyError::Call { server: self.server.clone(), status: Box::new(status) })?;
            let given: Vec<TokenCount> = reply.into_inner().counts;
            if given.len() != texts.len() {
                return Err(VocabularyError::Counts { asked: texts.len(), given: given.len() });
            }
            counts.extend(given.iter().map(|count| count.token_count));
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_differ_and_are_enough() {
        let words: std::collections::BTreeSet<&str> = WORDS.split_whitespace().collect();
        assert_eq!(words.len(), WORDS.split_whitespace().count());
        assert!(words.len() > 700 && words.contains(FIRST));
    }

    #[test]
    fn words_of_more_than_one_token_anywhere_are_left_out() {
        let words: Vec<&'static str> = WORDS.split_whitespace().take(100).collect();
        let (mut alone, mut behind) = (vec![3; 100], vec![4; 100]);
        alone[1] = 4;
        behind[2] = 5;
        let vocabulary = Vocabulary::of_counts(&words, 2, 3, &alone, &behind).expect("enough words");
        assert_eq!(vocabulary.words().len(), 98);
        assert!(!vocabulary.words().contains(&words[1]) && !vocabulary.words().contains(&words[2]));
        assert_eq!((vocabulary.words_of(11), vocabulary.words_of(1)), (9, 0));
        let few = Vocabulary::of_counts(&words, 2, 3, &[9; 100], &behind);
        assert!(matches!(few, Err(VocabularyError::Words { found: 0, tried: 100 })));
    }
}
