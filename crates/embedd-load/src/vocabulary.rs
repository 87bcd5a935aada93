//! Words that are single tokens of the server's model, for generating texts with an exact number of tokens.

use tonic::Status;

use embedd_client::Connection;
use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use embedd_proto::{CountTokensRequest, TokenCount};

/// Common words, separated by whitespace.
const WORDS: &str = include_str!("words.txt");
/// Each word is also counted after this one, because tokenizers may treat the first word of a text differently.
const FIRST: &str = "the";
/// With fewer words, texts would be too similar.
const MIN_WORDS: usize = 64;
/// Texts per CountTokens call. Every server accepts that many.
const COUNTED_AT_ONCE: usize = 64;

/// Why texts with an exact number of tokens cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// CountTokens failed.
    #[error("CountTokens at {server}: {}: {}", super::wire::code_name(.status.code()), .status.message())]
    Call {
        /// The server's address.
        server: String,
        /// The server's reply.
        status: Box<Status>,
    },
    /// The reply does not match the request.
    #[error("CountTokens: the server returned {received} counts for {expected} texts")]
    Counts {
        /// Texts in the request.
        expected: usize,
        /// Counts in the reply.
        received: usize,
    },
    /// Too few words are single tokens, for example because the model is for another language.
    #[error(
        "only {found} of {tried} common English words are single tokens of this model; provide texts with --texts FILE"
    )]
    Words {
        /// Words that are single tokens.
        found: usize,
        /// Words that were counted.
        tried: usize,
    },
    /// The tokens of the words do not add up to those of the text.
    #[error(
        "cannot generate texts of exact length for this model: a text that should have {expected} tokens has {counted}; \
         provide texts with --texts FILE"
    )]
    Sum {
        /// The sum of the words and the special tokens.
        expected: u32,
        /// The server's count.
        counted: u32,
    },
}

/// Words that are single tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vocabulary {
    words: Vec<&'static str>,
    /// Tokens of an empty text.
    special: u32,
}

impl Vocabulary {
    /// Selects the common words that are single tokens, according to the server.
    pub(crate) async fn of_server(counter: &mut Counter) -> Result<Self, VocabularyError> {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let after = words.iter().map(|word| format!("{FIRST} {word}"));
        let texts: Vec<String> =
            ["".to_owned(), FIRST.to_owned()].into_iter().chain(words.iter().map(|&word| word.to_owned())).collect();
        let alone = counter.count(&texts).await?;
        let after = counter.count(&after.collect::<Vec<_>>()).await?;
        Self::of_counts(&words, alone[0], alone[1], &alone[2..], &after)
    }

    /// `first` is the number of tokens of [`FIRST`], `alone` those of each word alone, `after` those of each word after
    /// [`FIRST`].
    fn of_counts(
        words: &[&'static str],
        special: u32,
        first: u32,
        alone: &[u32],
        after: &[u32],
    ) -> Result<Self, VocabularyError> {
        let counts = alone.iter().zip(after);
        let single = |(alone, after): (&u32, &u32)| *alone == special + 1 && *after == first + 1;
        let words: Vec<&str> =
            words.iter().zip(counts).filter(|(_, counts)| single(*counts)).map(|(word, _)| *word).collect();
        if words.len() < MIN_WORDS {
            return Err(VocabularyError::Words { found: words.len(), tried: alone.len() });
        }
        Ok(Self { words, special })
    }

    pub(crate) fn words(&self) -> &[&'static str] {
        &self.words
    }

    /// The number of words in a text with that many tokens. Zero if the special tokens alone reach that number.
    pub(crate) fn words_of(&self, tokens: u32) -> usize {
        tokens.saturating_sub(self.special) as usize
    }

    /// The number of special tokens, which is that of an empty text.
    pub(crate) fn special(&self) -> u32 {
        self.special
    }

    #[cfg(test)]
    pub(crate) fn of_words(special: u32) -> Self {
        Self { words: WORDS.split_whitespace().collect(), special }
    }
}

/// Lets the server count tokens.
pub(crate) struct Counter {
    client: EmbeddingServiceClient<Connection>,
    server: String,
}

impl Counter {
    pub(crate) fn new(client: EmbeddingServiceClient<Connection>, server: &str) -> Self {
        Self { client, server: server.to_owned() }
    }

    pub(crate) async fn count(&mut self, texts: &[String]) -> Result<Vec<u32>, VocabularyError> {
        let mut counts = Vec::with_capacity(texts.len());
        for texts in texts.chunks(COUNTED_AT_ONCE) {
            let request = CountTokensRequest { texts: texts.to_vec() };
            let reply = self
                .client
                .count_tokens(request)
                .await
                .map_err(|status| VocabularyError::Call { server: self.server.clone(), status: Box::new(status) })?;
            let received: Vec<TokenCount> = reply.into_inner().counts;
            if received.len() != texts.len() {
                return Err(VocabularyError::Counts { expected: texts.len(), received: received.len() });
            }
            counts.extend(received.iter().map(|count| count.token_count));
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_distinct_and_sufficient() {
        let words: std::collections::BTreeSet<&str> = WORDS.split_whitespace().collect();
        assert_eq!(words.len(), WORDS.split_whitespace().count());
        assert!(words.len() > 700 && words.contains(FIRST));
    }

    #[test]
    fn words_with_more_than_one_token_in_any_position_are_left_out() {
        let words: Vec<&'static str> = WORDS.split_whitespace().take(100).collect();
        let mut alone = vec![3; 100];
        let mut after = vec![4; 100];
        alone[1] = 4;
        after[2] = 5;
        let vocabulary = Vocabulary::of_counts(&words, 2, 3, &alone, &after).expect("enough words");
        assert_eq!(vocabulary.words().len(), 98);
        assert!(!vocabulary.words().contains(&words[1]) && !vocabulary.words().contains(&words[2]));
        assert_eq!((vocabulary.words_of(11), vocabulary.words_of(1)), (9, 0));
        let few = Vocabulary::of_counts(&words, 2, 3, &[9; 100], &after);
        assert!(matches!(few, Err(VocabularyError::Words { found: 0, tried: 100 })));
    }
}
