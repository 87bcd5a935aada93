//! Many texts, one after the other.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};

use super::{CallError, CallErrorKind, Client, EmbedOptions, Embedding};

/// Texts of one request, at most: those that have come by the time that there is room for it.
const TEXTS: usize = 16;
/// Requests under way at once.
const REQUESTS: usize = 8;

/// An embedding, and the name of the model that made it.
type Made = Result<(Embedding, Arc<str>), CallError>;

impl Client {
    /// The embeddings of texts, in their order and each with its text, as the texts come: those that come while others are
    /// under way share a request, and one that comes alone does not wait for company. No more texts are taken while
    /// embeddings are not.
    ///
    /// The requests are calls of their own, each with the client's deadline and repeated by the client's rules, so that the
    /// end of a connection or of a server does not end the stream. An error that is a text's own (it is too long) is told
    /// in the place of its embedding, and the stream goes on. After any other error it ends; so it does where servers begin
    /// to serve another model.
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
            .scan(Course::default(), |course, (text, made)| {
                std::future::ready(course.next(made).map(|result| (text, result)))
            })
    }
}

/// How far a stream has come.
#[derive(Default)]
struct Course {
    model: Option<Arc<str>>,
    ended: bool,
}

impl Course {
    /// What is told of the next text; nothing after the end.
    fn next(&mut self, made: Made) -> Option<Result<Embedding, CallError>> {
        if self.ended {
            return None;
        }
        let result = made.and_then(|(embedding, model)| match self.model.get_or_insert_with(|| Arc::clone(&model)) {
            first if *first == model => Ok(embedding),
            first => Err(CallError::mixed_models("Embed", first, &model)),
        });
        self.ended = result.as_ref().is_err_and(|error| !is_of_text(error));
        Some(result)
    }
}

async fn embed_each<T: AsRef<str> + Send>(client: Client, texts: Vec<T>, options: EmbedOptions) -> Vec<(T, Made)> {
    let together = texts.iter().map(|text| text.as_ref().to_owned()).collect();
    match client.embed_by_one_model(together, options).await {
        Ok((embeddings, model)) => {
            let model: Arc<str> = model.into();
            texts.into_iter().zip(embeddings.into_iter().map(|embedding| Ok((embedding, Arc::clone(&model))))).collect()
        }
        Err(error) if texts.len() > 1 && is_of_text(&error) => {
            let mut each = Vec::with_capacity(texts.len());
            for text in texts {
                let made = client.embed_by_one_model(vec![text.as_ref().to_owned()], options).await;
                each.push((text, made.map(|(mut embeddings, model)| (embeddings.remove(0), model.into()))));
            }
            each
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
