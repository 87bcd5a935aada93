//! The Rust client of embedd: load balancing, retries, deadlines and streams of texts.
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
//!         Err(error) if *error.kind() == CallErrorKind::Late => println!("too late"),
//!         Err(error) => return Err(error.into()),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! **Servers.** An address is `host:port` or `https://host:port`. Separate several with commas. `dns:///host:port`
//! (with TLS `dns+https:///host:port`) stands for every address of a name, which is resolved again every 30 seconds and whenever
//! a connection fails. The client keeps one connection to each server open in the background, and spreads calls over the
//! connected servers in turn. Calls therefore never wait for a server that is gone, and a new server receives its share. If
//! no server is connected, a call waits only while a connection attempt is in progress.
//!
//! **Retries.** Calls that no server has answered are retried according to the [`RetryPolicy`]. All calls of this client
//! are computations, so retrying one is harmless.
//!
//! **Deadlines.** A client's deadline covers a whole call, with all its attempts and, if the request is split, all its
//! parts. The server receives the remaining time and does not compute late results.
//!
//! Dropping the future of a call cancels the call, here and on the server.

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
pub use retry::RetryPolicy;

pub use embedd_proto::{TokenCount, Truncation};

/// A connection to one server, for calls of any kind; clones share it.
pub type Connection = InterceptedService<Channel, Bearer>;

/// The maximum number of parts of one request in flight.
const MAX_PARTS_IN_FLIGHT: usize = 4;
/// The maximum bytes of a reply for each text of its request: 16,384 components of 4 bytes, more than any encoder has.
const MAX_REPLY_BYTES_PER_TEXT: usize = 64 << 10;
/// The maximum bytes of the rest of a reply.
const MAX_OTHER_REPLY_BYTES: usize = 1 << 20;

/// Calls the servers of one model. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    caller: Arc<Caller>,
    /// Fetched before the first request with several texts.
    limits: Arc<Mutex<Option<Limits>>>,
    deadline: Option<Duration>,
}

impl Client {
    /// Connects to at least one of the servers, with default settings. See [above](self) for the format of addresses.
    ///
    /// # Errors
    /// [`ConnectError`], which says what to do.
    ///
    /// # Panics
    /// If called outside a tokio runtime.
    pub async fn connect(servers: &str) -> Result<Self, ConnectError> {
        Self::builder(servers).connect().await
    }

    /// Returns a builder for a client of these servers.
    pub fn builder(servers: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(servers.into())
    }

    /// Returns the same client with another deadline, or none.
    #[must_use]
    pub fn with_deadline(&self, deadline: Option<Duration>) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// Embeds texts. Returns normalized vectors with all components, in the order of the texts.
    ///
    /// # Errors
    /// [`CallError`] if any text could not be embedded.
    pub async fn embed<T: Into<String>>(
        &self,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Embedding>, CallError> {
        self.embed_with(texts, EmbedOptions::default()).await
    }

    /// Embeds texts, in order. Requests that exceed the server's limits are split into parts, which are sent concurrently.
    ///
    /// # Errors
    /// [`CallError`] if any text could not be embedded.
    pub async fn embed_with<T: Into<String>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        options: EmbedOptions,
    ) -> Result<Vec<Embedding>, CallError> {
        let texts = texts.into_iter().map(Into::into).collect();
        self.embed_by_one_model(texts, options).await.map(|(embeddings, _)| embeddings)
    }

    /// Counts the tokens of texts, in order, without running the model.
    ///
    /// # Errors
    /// [`CallError`] if the call failed.
    pub async fn count_tokens<T: Into<String>>(
        &self,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Vec<TokenCount>, CallError> {
        let texts = texts.into_iter().map(Into::into).collect();
        let counts = self.in_parts(texts, Self::count_part).await?;
        Ok(counts.into_iter().flatten().collect())
    }

    /// Describes the model and the limits of requests, as reported by one of the servers.
    ///
    /// # Errors
    /// [`CallError`] if the call failed.
    pub async fn model(&self) -> Result<GetModelResponse, CallError> {
        self.model_by(Deadline::after(self.deadline)).await
    }

    /// Returns the address and health of each server. Does not retry.
    pub async fn health(&self) -> Vec<(String, Health)> {
        let ask = async |(server, channel)| match channel {
            Ok(channel) => (server, health::check(channel, self.deadline).await),
            Err(reason) => (server, Health::Unknown(reason)),
        };
        join_all(self.caller.pool.all().into_iter().map(ask)).await
    }

    async fn model_by(&self, deadline: Deadline) -> Result<GetModelResponse, CallError> {
        let send = |attempt: call::Attempt| async move {
            service(&attempt.connection, 0).get_model(attempt.request(GetModelRequest {})).await
        };
        self.caller.call("GetModel", deadline, send).await
    }

    /// Returns embeddings, and the name of the model that computed them all. The name is empty if there are no texts.
    async fn embed_by_one_model(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> Result<(Vec<Embedding>, String), CallError> {
        let embed = |client: Self, texts, deadline| client.embed_part(texts, options.clone(), deadline);
        let mut replies = self.in_parts(texts, embed).await?;
        let model = replies.first_mut().map(|reply| std::mem::take(&mut reply.model)).unwrap_or_default();
        if let Some(other) = replies.iter().skip(1).find(|reply| reply.model != model) {
            return Err(CallError::mixed_models("Embed", &model, &other.model));
        }
        Ok((replies.into_iter().flat_map(|reply| reply.embeddings).map(Embedding::from).collect(), model))
    }

    /// Sends texts in parts that a server accepts.
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
            answer.map_err(move |error| error.for_whole_request(part.first))
        });
        let answers = answers.buffered(MAX_PARTS_IN_FLIGHT).try_collect().await;
        if let Err(CallErrorKind::Invalid(_)) = answers.as_ref().map_err(CallError::kind) {
            // The limits may be out of date: a server can restart with different ones.
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
        let expected = texts.len();
        let message = options.request(texts);
        let send = |attempt: call::Attempt| {
            let request = attempt.request(message.clone());
            async move { service(&attempt.connection, expected).embed(request).await }
        };
        let reply = self.caller.call("Embed", deadline, send).await?;
        match reply.embeddings.len() {
            received if received == expected => Ok(reply),
            received => Err(CallError::bad_reply("Embed", received, expected)),
        }
    }

    async fn count_part(self, texts: Vec<String>, deadline: Deadline) -> Result<Vec<TokenCount>, CallError> {
        let expected = texts.len();
        let message = CountTokensRequest { texts };
        let send = |attempt: call::Attempt| {
            let request = attempt.request(message.clone());
            async move { service(&attempt.connection, expected).count_tokens(request).await }
        };
        let counts = self.caller.call("CountTokens", deadline, send).await?.counts;
        match counts.len() {
            received if received == expected => Ok(counts),
            received => Err(CallError::bad_reply("CountTokens", received, expected)),
        }
    }
}

/// `texts` are those of the request, which bound the size of its reply.
fn service(connection: &Connection, texts: usize) -> EmbeddingServiceClient<Connection> {
    let bytes = texts.saturating_mul(MAX_REPLY_BYTES_PER_TEXT).saturating_add(MAX_OTHER_REPLY_BYTES);
    EmbeddingServiceClient::new(connection.clone()).max_decoding_message_size(bytes)
}

#[cfg(test)]
mod tests;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
