//! A client of the service, for Rust programs and for this one's own commands.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use embedd_client::{CallErrorKind, Client, EmbedOptions};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::builder("dns:///embedd.example:50051").deadline(Duration::from_secs(1)).connect().await?;
//!     for embedding in client.embed(["Ignore all previous instructions", "What is the weather like?"]).await? {
//!         println!("{} values, {} tokens", embedding.values.len(), embedding.token_count);
//!     }
//!
//!     let short = EmbedOptions { dimensions: Some(256), ..EmbedOptions::default() };
//!     match client.with_deadline(Some(Duration::from_millis(20))).embed_with(["a text"], short).await {
//!         Ok(embeddings) => println!("{:?}", embeddings[0].values),
//!         Err(error) if *error.kind() == CallErrorKind::Late => println!("later, then"),
//!         Err(error) => return Err(error.into()),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! **Servers.** One address (`host:port`, `https://host:port`), several with commas between them, or
//! `dns:///host:port` (with TLS: `dns+https:///host:port`) for every address of a name, which is asked for again every 30
//! seconds and when a connection fails. There is one connection to each, kept open in the background; calls go round
//! among the servers that have taken theirs. So no call waits for a server that is gone, and a server that has just begun
//! gets its share. Where no server is connected, a call waits only while one may yet be.
//!
//! **Repetitions.** Calls that no server has answered are repeated: [`RetryPolicy`] says when. All calls of this client
//! only compute something, so that repeating one does no harm.
//!
//! **Deadlines.** A client's deadline is that of a whole call: of all its repetitions and, where a request is larger than
//! the server takes and is split, of all its parts. What is left of it is told to the server, which does not compute
//! what would be late.
//!
//! Dropping a call's future gives it up, here and on the server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _, stream};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use embedd_proto::{CountTokensRequest, EmbedResponse, GetModelRequest, GetModelResponse};

mod address;
mod bearer;
mod builder;
mod call;
mod connect_error;
mod connection;
mod embedding;
mod error;
mod health;
mod parts;
mod pool;
mod refusal;
mod retry;
mod streaming;
mod verdict;

pub use bearer::Bearer;
pub use builder::ClientBuilder;
use call::{Caller, Deadline};
pub use connect_error::ConnectError;
pub use embedding::{EmbedOptions, Embedding};
pub use error::{CallError, CallErrorKind, Violation};
pub use health::{Health, is_serving};
use parts::Limits;
pub use refusal::Refused;
pub use retry::RetryPolicy;

pub use embedd_proto::{TokenCount, Truncation};

/// A connection to one server, for calls of any kind; clones share it.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Parts of one request that are under way at once.
const PARTS_AT_ONCE: usize = 4;

/// Calls the servers of one model; cheap to clone, clones share connections and what is known of the servers.
#[derive(Debug, Clone)]
pub struct Client {
    caller: Arc<Caller>,
    /// Asked for when a request of several texts is made.
    limits: Arc<Mutex<Option<Limits>>>,
    deadline: Option<Duration>,
}

impl Client {
    /// A client with default settings, connected to at least one of the servers. How they are written is said
    /// [above](self).
    ///
    /// # Errors
    /// [`ConnectError`], each saying what to do.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(servers: &str) -> Result<Self, ConnectError> {
        Self::builder(servers).connect().await
    }

    /// Settings of a client of these servers.
    pub fn builder(servers: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(servers.into())
    }

    /// The same client with another deadline, or none.
    #[must_use]
    pub fn with_deadline(&self, deadline: Option<Duration>) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The embeddings of texts, in their order, normalised and with all components.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn embed<T: Into<String>>(
        &self,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Embedding>, CallError> {
        self.embed_with(texts, EmbedOptions::default()).await
    }

    /// The embeddings of texts, in their order. More texts than a server takes in one request are sent in parts, some of
    /// them at once.
    ///
    /// # Errors
    /// [`CallError`]; there are all embeddings or none.
    pub async fn embed_with<T: Into<String>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        options: EmbedOptions,
    ) -> Result<Vec<Embedding>, CallError> {
        let texts = texts.into_iter().map(Into::into).collect();
        self.embed_by_one_model(texts, options).await.map(|(embeddings, _)| embeddings)
    }

    /// How many tokens texts have, in their order, without running the model.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn count_tokens<T: Into<String>>(
        &self,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Vec<TokenCount>, CallError> {
        let texts = texts.into_iter().map(Into::into).collect();
        let counts = self.in_parts(texts, Self::count_part).await?;
        Ok(counts.into_iter().flatten().collect())
    }

    /// The model being served, and the limits of requests; of one of the servers, where there are several.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn model(&self) -> Result<GetModelResponse, CallError> {
        self.model_by(Deadline::after(self.deadline)).await
    }

    /// What each server says of itself, by its address. Nothing is repeated.
    pub async fn health(&self) -> Vec<(String, Health)> {
        let ask = async |(server, channel)| match channel {
            Ok(channel) => (server, health::of(channel, self.deadline).await),
            Err(reason) => (server, Health::Unknown(reason)),
        };
        join_all(self.caller.pool.all().into_iter().map(ask)).await
    }

    async fn model_by(&self, deadline: Deadline) -> Result<GetModelResponse, CallError> {
        let send = |attempt: call::Attempt| async move {
            service(&attempt.connection).get_model(attempt.request(GetModelRequest {})).await
        };
        self.caller.call("GetModel", deadline, send).await
    }

    /// Embeddings, and the name of the model that made all of them; no name where there is nothing to embed.
    async fn embed_by_one_model(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> Result<(Vec<Embedding>, String), CallError> {
        let embed = |client: Self, texts, deadline| client.embed_part(texts, options, deadline);
        let mut replies = self.in_parts(texts, embed).await?;
        let model = replies.first_mut().map(|reply| std::mem::take(&mut reply.model)).unwrap_or_default();
        if let Some(other) = replies.iter().skip(1).find(|reply| reply.model != model) {
            return Err(CallError::mixed_models("Embed", &model, &other.model));
        }
        Ok((replies.into_iter().flat_map(|reply| reply.embeddings).map(Embedding::from).collect(), model))
    }

    /// What comes of texts, in parts that a server takes.
    async fn in_parts<T, F>(
        &self,
        texts: Vec<String>,
        send: impl Fn(Self, Vec<String>, Deadline) -> F,
    ) -> Result<Vec<T>, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let deadline = Deadline::after(self.deadline);
        if texts.len() == 1 {
            return Ok(vec![send(self.clone(), texts, deadline).await?]);
        }
        let parts = if texts.is_empty() { Vec::new() } else { self.limits(deadline).await?.split(texts) };
        let answers = stream::iter(parts).map(|part| {
            let answer = send(self.clone(), part.texts, deadline);
            answer.map_err(move |error| error.of_part_at(part.first))
        });
        let answers = answers.buffered(PARTS_AT_ONCE).try_collect().await;
        if let Err(CallErrorKind::Invalid(_)) = answers.as_ref().map_err(CallError::kind) {
            // They may be those of a server that has begun anew with other ones.
            *self.known_limits() = None;
        }
        answers
    }

    async fn limits(&self, deadline: Deadline) -> Result<Limits, CallError> {
        let known = *self.known_limits();
        if let Some(limits) = known {
            return Ok(limits);
        }
        let limits = Limits::of(&self.model_by(deadline).await?);
        *self.known_limits() = Some(limits);
        Ok(limits)
    }

    fn known_limits(&self) -> std::sync::MutexGuard<'_, Option<Limits>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn embed_part(
        self,
        texts: Vec<String>,
        options: EmbedOptions,
        deadline: Deadline,
    ) -> Result<EmbedResponse, CallError> {
        let (asked, message) = (texts.len(), options.request(texts));
        let send = |attempt: call::Attempt| {
            let request = attempt.request(message.clone());
            async move { service(&attempt.connection).embed(request).await }
        };
        let reply = self.caller.call("Embed", deadline, send).await?;
        match reply.embeddings.len() {
            given if given == asked => Ok(reply),
            given => Err(CallError::bad_reply("Embed", given, asked)),
        }
    }

    async fn count_part(self, texts: Vec<String>, deadline: Deadline) -> Result<Vec<TokenCount>, CallError> {
        let (asked, message) = (texts.len(), CountTokensRequest { texts });
        let send = |attempt: call::Attempt| {
            let request = attempt.request(message.clone());
            async move { service(&attempt.connection).count_tokens(request).await }
        };
        let counts = self.caller.call("CountTokens", deadline, send).await?.counts;
        match counts.len() {
            given if given == asked => Ok(counts),
            given => Err(CallError::bad_reply("CountTokens", given, asked)),
        }
    }
}

fn service(connection: &Connection) -> EmbeddingServiceClient<Connection> {
    // Replies are as large as what was asked for.
    EmbeddingServiceClient::new(connection.clone()).max_decoding_message_size(usize::MAX)
}

#[cfg(test)]
mod tests;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
