//! A load test: a server called as many callers would call it, and what that was like for them.
//!
//! The line is [`run()`]: connect, ask what is served, prepare texts and what their embeddings must be, then one step
//! behind the other.

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
use plan::{Plan, Source, UnfitPlan};
use run::Runner;
use texts::{Maker, Text, Texts};
use vocabulary::{Counter, Vocabulary};
use wire::{Caller, code_name};

pub use vocabulary::VocabularyError;

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not say what it serves, or fails a text that is to be compared with.
    #[error("{call} of {server}: {} ({})", .status.message(), code_name(.status.code()))]
    Call {
        /// The call.
        call: &'static str,
        /// The server.
        server: String,
        /// What it said.
        status: Box<Status>,
    },
    /// It gave another number of embeddings than it was asked for.
    #[error("Embed of {server}: {given} embeddings for one text")]
    Embeddings {
        /// The server.
        server: String,
        /// How many.
        given: usize,
    },
    /// The plan does not fit the server.
    #[error(transparent)]
    Plan(#[from] UnfitPlan),
    /// Texts cannot be made.
    #[error(transparent)]
    Texts(#[from] VocabularyError),
    /// Special tokens alone are more.
    #[error("--tokens {asked}: an empty text has {least} tokens already")]
    TooShort {
        /// Of the plan.
        asked: u32,
        /// Of the model.
        least: u32,
    },
    /// It was stopped.
    #[error("stopped before anything was measured")]
    Stopped,
}

/// What a test tells while it runs.
#[derive(Debug, Clone, Copy)]
pub enum News<'a> {
    /// The server has answered; the steps begin.
    Begun(&'a Results),
    /// A step has ended.
    Step(&'a StepFigures),
}

/// Runs a load test on connections made by `connector`. After `stop` it ends with what was measured until then. It
/// needs a single-threaded runtime.
///
/// # Errors
/// [`LoadError`]. Requests that fail during a step are counted and are not errors.
pub async fn run(
    plan: &Plan,
    connector: &ClientBuilder,
    client: Client,
    stop: &CancellationToken,
    mut tell: impl FnMut(News<'_>),
) -> Result<Results, LoadError> {
    let local = LocalSet::new();
    local
        .run_until(async {
            let (runner, mut results) = tokio::select! {
                prepared = prepare(plan, connector, client) => prepared?,
                () = stop.cancelled() => return Err(LoadError::Stopped),
            };
            tell(News::Begun(&results));
            for step in &plan.steps {
                let Some(figures) = runner.run(*step, stop.cancelled()).await else { break };
                tell(News::Step(&figures));
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
    let connections = connect(connector, plan.most_connections()).await?;
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
    if lengths.least < vocabulary.special() {
        return Err(LoadError::TooShort { asked: lengths.least, least: vocabulary.special() });
    }
    let mut maker = Maker::new(vocabulary, lengths, plan.seed);
    maker.check(&mut counter).await?;
    Ok(match distinct {
        Some(distinct) => Texts::pool((0..distinct.get()).map(|_| maker.make()).collect(), plan.seed),
        None => Texts::Fresh(maker),
    })
}

/// The embedding of each text, asked for alone while nothing else is asked.
async fn expected(plan: &Plan, connection: Connection, texts: &[Text]) -> Result<Rc<[Bytes]>, LoadError> {
    let mut caller = Caller::new(connection, None);
    let mut expected = Vec::with_capacity(texts.len());
    for text in texts {
        let message = EmbedRequest { texts: vec![text.text.clone()], skip_cache: true, ..run::request(plan) };
        let reply = caller.embed(message).await.map_err(|status| call_error(plan, "Embed", status))?;
        let [embedding] = reply.embeddings.as_slice() else {
            let (server, given) = (plan.server.clone(), reply.embeddings.len());
            return Err(LoadError::Embeddings { server, given });
        };
        // A copy: the bytes that came would keep all of their reply in memory.
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
