//! The load generator: calls a server like many concurrent clients, and measures throughput and latency.
//!
//! [`run()`] connects, asks the server for its model, prepares texts and their expected embeddings, and then runs one step
//! after another.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;

use prost::bytes::Bytes;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use embedd_client::{ClientBuilder, ConnectError, Connection};
use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use embedd_proto::{EmbedRequest, Encoding, GetModelRequest, GetModelResponse};

mod arrivals;
mod cpu;
pub mod figures;
mod measure;
pub mod output;
pub mod plan;
mod run;
mod texts;
mod vocabulary;
mod wire;

use figures::{Client, Results, SCHEMA, Server, Settings, StepFigures};
use plan::{Plan, PlanError, Source};
use run::Runner;
use texts::{Generator, Text, Texts};
use vocabulary::{Counter, Vocabulary};
use wire::{Caller, code_name};

pub use vocabulary::VocabularyError;

/// Why a load test has no results.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call before the test failed.
    #[error("{call} at {server}: {}: {}", code_name(.status.code()), .status.message())]
    Call {
        /// The method.
        call: &'static str,
        /// The server's address.
        server: String,
        /// The server's reply.
        status: Box<Status>,
    },
    /// The server returned the wrong number of embeddings.
    #[error("Embed at {server}: the server returned {received} embeddings for one text")]
    Embeddings {
        /// The server's address.
        server: String,
        /// The number of embeddings in the reply.
        received: usize,
    },
    /// The plan does not fit the server.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Texts cannot be generated.
    #[error(transparent)]
    Texts(#[from] VocabularyError),
    /// The special tokens alone exceed the requested length.
    #[error("--tokens {requested}: even an empty text has {min} tokens")]
    TooShort {
        /// The requested length.
        requested: u32,
        /// The number of special tokens.
        min: u32,
    },
    /// The test was stopped.
    #[error("stopped before anything was measured")]
    Stopped,
}

/// The progress of a running test.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The preparations are complete, and the steps start. The results have no steps yet.
    Started(&'a Results),
    /// A step has ended.
    StepDone(&'a StepFigures),
}

/// Runs a load test over connections made by `connector`. When `stop` is cancelled, it returns what it has measured so
/// far. Requires a single-threaded runtime.
///
/// # Errors
/// [`LoadError`]. Requests that fail during a step are counted, and are not errors.
pub async fn run(
    plan: &Plan,
    connector: &ClientBuilder,
    client: Client,
    stop: &CancellationToken,
    mut report: impl FnMut(Event<'_>),
) -> Result<Results, LoadError> {
    let local = LocalSet::new();
    local
        .run_until(async {
            let (runner, mut results) = tokio::select! {
                prepared = prepare(plan, connector, client) => prepared?,
                () = stop.cancelled() => return Err(LoadError::Stopped),
            };
            report(Event::Started(&results));
            for step in &plan.steps {
                let Some(figures) = runner.run(*step, stop.cancelled()).await else { break };
                report(Event::StepDone(&figures));
                results.steps.push(figures);
                if stop.is_cancelled() {
                    break;
                }
            }
            results.interrupted = stop.is_cancelled();
            if results.steps.is_empty() { Err(LoadError::Stopped) } else { Ok(results) }
        })
        .await
}

async fn prepare<'p>(
    plan: &'p Plan,
    connector: &ClientBuilder,
    client: Client,
) -> Result<(Runner<'p>, Results), LoadError> {
    let connections = connect(connector, plan.max_connections()).await?;
    let mut service = EmbeddingServiceClient::new(connections[0].clone());
    let model = service.get_model(GetModelRequest {}).await.map_err(|status| call_error(plan, "GetModel", status))?;
    let model = model.into_inner();
    plan.check(&model)?;
    let texts = texts(plan, Counter::new(service, &plan.server)).await?;
    let expected = match &texts {
        Texts::Pool { texts, .. } if plan.verify => Some(expected(plan, connections[0].clone(), texts).await?),
        _ => None,
    };
    let results = Results {
        schema: SCHEMA,
        server: server(plan, model),
        client,
        settings: settings(plan),
        steps: Vec::new(),
        interrupted: false,
    };
    let callers = connections.into_iter().map(|connection| Caller::new(connection, plan.deadline)).collect();
    Ok((Runner { plan, callers, texts: Rc::new(RefCell::new(texts)), expected }, results))
}

async fn connect(connector: &ClientBuilder, count: usize) -> Result<Vec<Connection>, ConnectError> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(connector.clone().connection().await?);
    }
    Ok(connections)
}

async fn texts(plan: &Plan, mut counter: Counter) -> Result<Texts, LoadError> {
    let (lengths, distinct) = match &plan.source {
        Source::Given(texts) => {
            let texts = texts.iter().map(|text| Text { text: text.clone(), tokens: None }).collect();
            return Ok(Texts::pool(texts, plan.seed));
        }
        Source::Generated { lengths, distinct } => (*lengths, *distinct),
    };
    let vocabulary = Vocabulary::of_server(&mut counter).await?;
    if lengths.min < vocabulary.special() {
        return Err(LoadError::TooShort { requested: lengths.min, min: vocabulary.special() });
    }
    let mut generator = Generator::new(vocabulary, lengths, plan.seed);
    generator.check(&mut counter).await?;
    Ok(match distinct {
        Some(distinct) => Texts::pool((0..distinct.get()).map(|_| generator.generate()).collect(), plan.seed),
        None => Texts::Fresh(generator),
    })
}

/// Embeds each text alone, with no other requests in flight.
async fn expected(plan: &Plan, connection: Connection, texts: &[Text]) -> Result<Rc<[Bytes]>, LoadError> {
    let mut caller = Caller::new(connection, None);
    let mut expected = Vec::with_capacity(texts.len());
    for text in texts {
        let message = EmbedRequest { texts: vec![text.text.clone()], skip_cache: true, ..run::request(plan) };
        let reply = caller.embed(message).await.map_err(|status| call_error(plan, "Embed", status))?;
        let [embedding] = reply.embeddings.as_slice() else {
            return Err(LoadError::Embeddings { server: plan.server.clone(), received: reply.embeddings.len() });
        };
        // Copied, because the original keeps the whole reply in memory.
        expected.push(Bytes::copy_from_slice(embedding.bits()));
    }
    Ok(expected.into())
}

fn call_error(plan: &Plan, call: &'static str, status: Status) -> LoadError {
    LoadError::Call { call, server: plan.server.clone(), status: Box::new(status) }
}

fn server(plan: &Plan, model: GetModelResponse) -> Server {
    let runtime = model.runtime.unwrap_or_default();
    Server {
        address: plan.server.clone(),
        model: model.name,
        engine: model.engine,
        instruction_set: model.instruction_set,
        quantization: model.quantization,
        version: runtime.version,
        onnxruntime_version: runtime.onnxruntime_version,
        sessions: runtime.sessions,
        threads_per_session: runtime.threads_per_session,
    }
}

fn settings(plan: &Plan) -> Settings {
    let (tokens, distinct) = match &plan.source {
        Source::Given(texts) => (None, Some(texts.len())),
        Source::Generated { lengths, distinct } => (Some(*lengths), distinct.map(NonZeroUsize::get)),
    };
    Settings {
        duration_s: plan.duration.as_secs_f64(),
        warm_up_s: plan.warm_up.as_secs_f64(),
        texts_per_request: plan.texts_per_request.get(),
        tokens,
        distinct,
        skip_cache: plan.skip_cache,
        deadline_ms: plan.deadline.map(|deadline| deadline.as_secs_f64() * 1e3),
        encoding: if plan.encoding == Encoding::Bytes { "bytes" } else { "float" }.to_owned(),
        verify: plan.verify,
        seed: plan.seed,
    }
}
