//! Many texts, one after the other.

use futures_util::{Stream, StreamExt as _, stream};

use super::{CallError, CallErrorKind, Client, EmbedOptions, Embedding};

/// Texts of one request, at most: those that have come by the time that there is room for it.
const TEXTS: usize = 16;
/// Requests under way at once.
const REQUESTS: usize = 8;

impl Client {
    /// The embeddings of texts, in their order and each with its text, as the texts come: those that come while others are
    /// under way share a request, and one that comes alone does not wait for company. No more texts are taken while
    /// embeddings are not.
    ///
    /// The requests are calls of their own, each with the client's deadline and repeated by the client's rules, so that the
    /// end of a connection or of a server does not end the stream. An error that is a text's own (it is too long) is told
    /// in the place of its embedding, and the stream goes on. After any other error it ends.
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
            .ready_chunks(TEXTS)
            .map(move |texts| embed_each(client.clone(), texts, options))
            .buffered(REQUESTS)
            .flat_map(stream::iter)
            .scan(false, |ended, (text, result)| {
                let item = (!*ended).then_some((text, result));
                *ended |= matches!(&item, Some((_, Err(error))) if !is_of_text(error));
                std::future::ready(item)
            })
    }
}

async fn embed_each<T: AsRef<str> + Send>(
    client: Client,
    texts: Vec<T>,
    options: EmbedOptions,
) -> Vec<(T, Result<Embedding, CallError>)> {
    let owned = |text: &T| text.as_ref().to_owned();
    let together: Vec<String> = texts.iter().map(owned).collect();
    match client.embed_with(together, options).await {
        Ok(embeddings) => texts.into_iter().zip(embeddings.into_iter().map(Ok)).collect(),
        Err(error) if texts.len() > 1 && is_of_text(&error) => {
            let mut results = Vec::with_capacity(texts.len());
            for text in texts {
                let alone = owned(&text);
                let embedding = client.embed_with([alone], options).await.map(|mut embeddings| embeddings.remove(0));
                results.push((text, embedding));
            }
            results
        }
        Err(error) => texts.into_iter().map(|text| (text, Err(error.clone()))).collect(),
    }
}

/// Whether nothing is wrong but texts.
fn is_of_text(error: &CallError) -> bool {
    match error.kind() {
        CallErrorKind::Invalid(violations) => {
            !violations.is_empty() && violations.iter().all(|violation| violation.text.is_some())
        }
        _ => false,
    }
}
