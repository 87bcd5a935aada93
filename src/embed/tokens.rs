//! Tokenization that does not block other requests, and requests that need only tokens.

use super::{EmbedError, Embedder};
use crate::batch::{Entered, Gate, GateFull};
use crate::caller::Caller;
use crate::request::Texts;
use embedd_model::tokenize::{DecodeError, Token, Work};

/// Texts of up to this many bytes in total are tokenized on the async thread itself: it takes about a millisecond.
const INLINE_BYTES: usize = 4096;
/// Longer ones are tokenized in steps of about this many bytes. Between them, other requests have their turn, and requests
/// whose deadline has expired or whose caller has disconnected end.
const STEP_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenCount {
    /// Tokens of the whole text, including special tokens.
    pub tokens: usize,
    /// Whether the model would truncate the text.
    pub exceeds_max: bool,
}

/// Why ids cannot be decoded.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DecodeFailure {
    #[error(transparent)]
    Ids(#[from] DecodeError),
    #[error(transparent)]
    Busy(#[from] GateFull),
}

impl Embedder {
    /// # Errors
    /// [`EmbedError::Text`], [`EmbedError::Gate`].
    pub(crate) async fn count_tokens(&self, texts: &Texts, caller: &Caller) -> Result<Vec<TokenCount>, EmbedError> {
        let start = |text| self.tokenizer.start_count(text);
        let counts = each_text(&self.gate, caller, numbered(texts), bytes(texts), start).await?;
        let max = self.tokenizer.max_tokens();
        Ok(counts.into_iter().map(|tokens| TokenCount { tokens, exceeds_max: tokens > max }).collect())
    }

    /// Counts the tokens of a short text of the server itself.
    ///
    /// # Errors
    /// [`EmbedError::Text`].
    pub(crate) fn count_tokens_now(&self, text: &str) -> Result<usize, EmbedError> {
        self.tokenizer.count(text).map_err(|error| EmbedError::Text { index: 0, error })
    }

    /// The tokens of each text, not truncated.
    ///
    /// # Errors
    /// [`EmbedError::Text`], [`EmbedError::Gate`].
    pub(crate) async fn tokens(
        &self,
        texts: &Texts,
        with_special_tokens: bool,
        caller: &Caller,
    ) -> Result<Vec<Vec<Token>>, EmbedError> {
        let start = |text| self.tokenizer.start_list(text, with_special_tokens);
        each_text(&self.gate, caller, numbered(texts), bytes(texts), start).await
    }

    /// Turns token ids back into text. Ids that are not in the vocabulary are ignored.
    ///
    /// # Errors
    /// [`DecodeFailure`].
    pub(crate) async fn decode(
        &self,
        ids: &[u32],
        with_special_tokens: bool,
        caller: &Caller,
    ) -> Result<String, DecodeFailure> {
        let decode = || self.tokenizer.decode(ids, with_special_tokens);
        let bytes = size_of_val(ids);
        if bytes <= INLINE_BYTES {
            return Ok(decode()?);
        }
        let _permit = self.gate.enter(caller)?.permit(bytes).await;
        Ok(tokio::task::block_in_place(decode)?)
    }
}

fn numbered(texts: &Texts) -> Vec<(usize, &str)> {
    texts.as_slice().iter().map(String::as_str).enumerate().collect()
}

fn bytes(texts: &Texts) -> usize {
    texts.as_slice().iter().map(String::len).sum()
}

/// Does the work that `start` begins for each of the texts, which have their indices in the request. `bytes` is the size
/// of all of them.
pub(super) async fn each_text<T, W: Work>(
    gate: &Gate,
    caller: &Caller,
    texts: Vec<(usize, T)>,
    bytes: usize,
    start: impl Fn(T) -> W,
) -> Result<Vec<W::Output>, EmbedError> {
    let mut queue = TextQueue { texts: texts.into_iter(), current: None, done: Vec::new(), start };
    if bytes <= INLINE_BYTES {
        queue.advance(usize::MAX)?;
        return Ok(queue.done);
    }
    let mut entered = gate.enter(caller)?;
    let mut is_done = false;
    while !is_done {
        is_done = step(&mut entered, || queue.advance(STEP_BYTES)).await?;
    }
    Ok(queue.done)
}

/// Does a step with permission of the gate; another thread takes over the other tasks of this one in the meantime.
async fn step<T>(entered: &mut Entered, work: impl FnOnce() -> T) -> T {
    let permit = entered.permit(STEP_BYTES).await;
    let done = tokio::task::block_in_place(work);
    drop(permit);
    // Deadlines and cancellation take effect, and tasks that wait for this thread run.
    tokio::task::yield_now().await;
    done
}

/// Texts that are processed one after the other.
struct TextQueue<T, W: Work, S> {
    texts: std::vec::IntoIter<(usize, T)>,
    current: Option<(usize, W)>,
    done: Vec<W::Output>,
    start: S,
}

impl<T, W: Work, S: Fn(T) -> W> TextQueue<T, W, S> {
    /// Processes about this many bytes. Returns whether that was everything.
    fn advance(&mut self, bytes: usize) -> Result<bool, EmbedError> {
        let mut processed = 0;
        while processed < bytes {
            let Some((index, mut work)) = self.next() else { return Ok(true) };
            let failed = |error| EmbedError::Text { index, error };
            match work.step().map_err(failed)? {
                Some(bytes) => {
                    processed += bytes;
                    self.current = Some((index, work));
                }
                None => self.done.push(work.finish().map_err(failed)?),
            }
        }
        Ok(false)
    }

    fn next(&mut self) -> Option<(usize, W)> {
        self.current.take().or_else(|| self.texts.next().map(|(index, text)| (index, (self.start)(text))))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::path::Path;

    use futures_util::poll;

    use super::*;
    use crate::batch::QueueLimits;
    use embedd_model::tokenize::{Tokenizer, Truncation};

    fn tokenizer() -> Tokenizer {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models/mpnet/tokenizer.json");
        Tokenizer::read(Path::new(folder), 400, false).expect("a tokenizer")
    }

    fn gate() -> Gate {
        let limits = QueueLimits { ahead: NonZeroUsize::MIN, total: NonZeroUsize::new(8).expect("not zero") };
        Gate::new(1, limits)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn long_texts_are_counted_in_steps_and_a_dropped_request_ends_between_them() {
        let tokenizer = tokenizer();
        let caller = Caller::server();
        let gate = gate();
        let text = "bal vin! ".repeat(20_000);
        let start = |text| tokenizer.start_count(text);
        let count = || each_text(&gate, &caller, vec![(0, text.as_str())], text.len(), start);
        let expected = tokenizer.count(&text).expect("a count");
        assert_eq!(count().await.expect("counts"), [expected]);
        let mut dropped = Box::pin(count());
        for _ in 0..3 {
            assert!(poll!(&mut dropped).is_pending(), "more steps are left");
        }
        let refused = count().await.expect_err("one request may work");
        assert!(matches!(refused, EmbedError::Gate(_)), "{refused}");
        drop(dropped);
        assert_eq!(count().await.expect("its place is free"), [expected]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_long_text_that_is_truncated_takes_one_step() {
        let tokenizer = tokenizer();
        let caller = Caller::server();
        let text = "bal vin! ".repeat(100_000);
        for truncation in [Truncation::End, Truncation::Start] {
            let texts = vec![(0, text.as_str()), (1, "short"), (2, text.as_str())];
            let gate = gate();
            let mut work = Box::pin(each_text(&gate, &caller, texts, 2 * text.len(), |text| {
                tokenizer.start(text, None, truncation)
            }));
            assert!(poll!(&mut work).is_pending());
            let expected = [text.as_str(), "short", text.as_str()].map(|text| tokenizer.tokenize(text, truncation));
            let found = work.await.expect("tokens");
            assert_eq!(found.into_iter().map(Ok).collect::<Vec<_>>(), expected);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn short_texts_with_a_long_prompt_need_permission() {
        let tokenizer = tokenizer();
        let caller = Caller::server();
        let gate = gate();
        let _full = gate.enter(&caller).expect("a place");
        let prompt = tokenizer.prompt(&"bal ".repeat(200), false).expect("a prompt");
        let start = |text| tokenizer.start(text, Some(&prompt), Truncation::End);
        let bytes = prompt.text().len() + "short".len();
        each_text(&gate, &caller, vec![(0, "short"); 5], 5 * bytes, start).await.expect("4 KiB");
        let refused =
            each_text(&gate, &caller, vec![(0, "short"); 6], 6 * bytes, start).await.expect_err("more than 4 KiB");
        assert!(matches!(refused, EmbedError::Gate(_)), "{refused}");
    }

    #[tokio::test]
    async fn short_texts_need_no_permission_and_errors_name_the_text() {
        let tokenizer = tokenizer();
        let caller = Caller::server();
        let gate = gate();
        let _full = gate.enter(&caller).expect("a place");
        let long = "bal ".repeat(500);
        let texts = vec![(3, "short"), (7, long.as_str())];
        let start = |text| tokenizer.start(text, None, Truncation::Reject);
        let found = each_text(&gate, &caller, texts, long.len(), start).await;
        assert!(matches!(found, Err(EmbedError::Text { index: 7, .. })), "{found:?}");
    }
}
