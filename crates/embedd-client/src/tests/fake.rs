//! A fake server that returns what a test specifies, over a real connection. The integration tests also include this
//! file.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::Stream;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use embedd_proto::embedding_service_server::{EmbeddingService, EmbeddingServiceServer};
use embedd_proto::{
    CountTokensRequest, CountTokensResponse, EmbedRequest, EmbedResponse, Embedding, GetModelRequest, GetModelResponse,
    Limits, TokenCount,
};

/// A received call.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) texts: Vec<String>,
    pub(crate) metadata: MetadataMap,
}

/// A call that begins with this text is never answered.
pub(crate) const NEVER_ANSWERED: &str = "a text that takes for ever";

type Answer = dyn Fn(&Seen, usize) -> Result<EmbedResponse, Status> + Send + Sync;

/// A running server. Stops when it is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _stop: DropGuard,
}

impl Fake {
    /// `answer` is called with each Embed call and the number of calls before it. If it blocks, all calls wait.
    pub(crate) async fn start(
        answer: impl Fn(&Seen, usize) -> Result<EmbedResponse, Status> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", answer).await
    }

    pub(crate) async fn start_at(
        address: &str,
        answer: impl Fn(&Seen, usize) -> Result<EmbedResponse, Status> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let stop = CancellationToken::new();
        let service = EmbeddingServiceServer::new(Service { answer: Box::new(answer), seen: Arc::clone(&seen) });
        let stopped = stop.clone().cancelled_owned();
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped));
        Self { address, seen, _stop: stop.drop_guard() }
    }

    /// Answers every call with [`reply`].
    pub(crate) async fn fine() -> Self {
        Self::start(|seen, _| Ok(reply(seen))).await
    }

    /// The Embed calls so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen().len()
    }
}

/// The vector of each text has one component: its length.
pub(crate) fn reply(seen: &Seen) -> EmbedResponse {
    let embedding = |text: &String| Embedding {
        values: vec![text.len() as f32],
        token_count: token_count(text),
        ..Default::default()
    };
    let embeddings = seen.texts.iter().map(embedding).collect();
    EmbedResponse { embeddings, model: "a model".to_owned(), ..Default::default() }
}

/// RESOURCE_EXHAUSTED, with the time after which the client may retry.
pub(crate) fn busy(pushback: &str) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-retry-pushback-ms", pushback.parse().expect("metadata"));
    Status::with_metadata(Code::ResourceExhausted, "too many requests", metadata)
}

/// One token per word, plus two special tokens.
fn token_count(text: &str) -> u32 {
    text.split_whitespace().count() as u32 + 2
}

struct Service {
    answer: Box<Answer>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[tonic::async_trait]
impl EmbeddingService for Service {
    type EmbedStreamStream = Pin<Box<dyn Stream<Item = Result<EmbedResponse, Status>> + Send>>;

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let metadata = request.metadata().clone();
        let seen = Seen { texts: request.into_inner().texts, metadata };
        let before = {
            let mut all = self.seen.lock().expect("no panic");
            all.push(seen.clone());
            all.len() - 1
        };
        if seen.texts[0] == NEVER_ANSWERED {
            std::future::pending::<()>().await;
        }
        (self.answer)(&seen, before).map(Response::new)
    }

    async fn embed_stream(
        &self,
        _: Request<Streaming<EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        Err(Status::unimplemented("no streams"))
    }

    async fn count_tokens(
        &self,
        request: Request<CountTokensRequest>,
    ) -> Result<Response<CountTokensResponse>, Status> {
        let count = |text: String| TokenCount { token_count: token_count(&text), exceeds_max_tokens: false };
        Ok(Response::new(CountTokensResponse { counts: request.into_inner().texts.into_iter().map(count).collect() }))
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        let limits = Limits { max_texts: 3, max_message_bytes: 10_000, ..Default::default() };
        Ok(Response::new(GetModelResponse { limits: Some(limits), max_tokens: 100, ..Default::default() }))
    }
}
