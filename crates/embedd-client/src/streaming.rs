//! Embeds a stream of texts.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};

use super::{CallError, CallErrorKind, Client, EmbedOptions, Embedding};

/// The maximum number of texts per request. A request takes the texts that are available when it can be sent.
const MAX_TEXTS: usize = 16;
/// The maximum number of requests in flight.
const MAX_REQUESTS: usize = 8;

/// An embedding, and the name of the model that computed it.
type EmbedResult = Result<(Embedding, Arc<str>), CallError>;

impl Client {
    /// Embeds a stream of texts. Returns each text with its embedding, in order.
    ///
    /// Texts that arrive while requests are in flight share the next request; a text that arrives alone is sent
    /// immediately. If the embeddings are not consumed, no more texts are read.
    ///
    /// Each request is a call with the client's deadline and retries, so the stream survives the loss of a connection or a
    /// server. If a single text is rejected (for example because it is too long), the error takes the place of its
    /// embedding, and the stream continues. After any other error the stream ends. It also ends with an error if the
    /// servers switch to another model.
    pub fn embed_stream<S>(
        &self,
        texts: S,
        options: EmbedOptions,
    ) -> impl Stream<Item = (S::Item, Result<Embedding, CallError>)> + Send + 'static + use<S>
    where
        S: Stream<Item: AsRef<str> + Send> + Send + 'static,
    {
        let client = self.clone();
        texts
            .ready_chunks(MAX_TEXTS)
            .map(move |texts| embed_each(client.clone(), texts, options.clone()))
            .buffered(MAX_REQUESTS)
            .flat_map(stream::iter)
            .scan(StreamState::default(), |state, (text, result)| {
                std::future::ready(state.next(result).map(|result| (text, result)))
            })
    }
}

#[derive(Default)]
struct StreamState {
    model: Option<Arc<str>>,
    ended: bool,
}

impl StreamState {
    /// The result for the next text; `None` after the end.
    fn next(&mut self, result: EmbedResult) -> Option<Result<Embedding, CallError>> {
        if self.ended {
            return None;
        }
        let result = result.and_then(|(embedding, model)| match self.model.get_or_insert_with(|| Arc::clone(&model)) {
            first if *first == model => Ok(embedding),
            first => Err(CallError::mixed_models("Embed", first, &model)),
        });
        self.ended = result.as_ref().is_err_and(|error| !concerns_texts_only(error));
        Some(result)
    }
}

async fn embed_each<T: AsRef<str> + Send>(
    client: Client,
    texts: Vec<T>,
    options: EmbedOptions,
) -> Vec<(T, EmbedResult)> {
    let together = texts.iter().map(|text| text.as_ref().to_owned()).collect();
    match client.embed_by_one_model(together, options.clone()).await {
        Ok((embeddings, model)) => {
            let model: Arc<str> = model.into();
            texts.into_iter().zip(embeddings.into_iter().map(|embedding| Ok((embedding, Arc::clone(&model))))).collect()
        }
        Err(error) if texts.len() > 1 && concerns_texts_only(&error) => {
            let mut each = Vec::with_capacity(texts.len());
            for text in texts {
                let result = client.embed_by_one_model(vec![text.as_ref().to_owned()], options.clone()).await;
                each.push((text, result.map(|(mut embeddings, model)| (embeddings.remove(0), model.into()))));
            }
            each
        }
        Err(error) => texts.into_iter().map(|text| (text, Err(error.clone()))).collect(),
    }
}

/// Whether the error concerns only individual texts.
fn concerns_texts_only(error: &CallError) -> bool {
    match error.kind() {
        CallErrorKind::Invalid(violations) => {
            !violations.is_empty() && violations.iter().all(|violation| violation.text.is_some())
        }
        _ => false,
    }
}
