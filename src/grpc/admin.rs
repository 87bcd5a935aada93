//! `embedd.v1.AdminService`.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::status;
use crate::admin::benchmark::{self, BenchmarkOptions, Plan, Row};
use crate::admin::{OperationLock, Operations, Validation};
use crate::model_slot::Served;
use crate::request::Violations;
use embedd_proto as proto;
use embedd_proto::admin_service_server::AdminService;
use embedd_proto::request_id::RequestId;

mod read;
mod write;

/// The maximum number of messages of a benchmark that the caller has not read yet.
const MAX_UNREAD: usize = 16;

#[derive(Debug)]
pub(super) struct Admin {
    operations: Operations,
    requests: TaskTracker,
    /// Cancelled when the server stops, which ends long operations.
    stopping: CancellationToken,
}

type Event = Result<proto::BenchmarkResponse, Status>;

impl Admin {
    pub(super) fn new(operations: Operations, requests: TaskTracker, stopping: CancellationToken) -> Self {
        Self { operations, requests, stopping }
    }

    fn served(&self) -> Result<Arc<Served>, Status> {
        self.operations.served().ok_or_else(status::loading)
    }

    /// Runs an operation, which ends early if the server stops. Its log lines carry the request id.
    async fn run<T>(
        &self,
        headers: &MetadataMap,
        operation: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Status> {
        let _in_flight = self.requests.token();
        let request_id = RequestId::from_headers_or_new(headers.as_ref());
        tokio::select! {
            biased;
            reply = operation.instrument(tracing::info_span!("call", request_id = request_id.as_str())) => reply,
            () = self.stopping.cancelled() => Err(status::stopping()),
        }
    }

    async fn validate(&self, request: proto::ValidateRequest) -> Result<proto::ValidateResponse, Status> {
        let served = self.served()?;
        let (pairs, threshold) = read::pairs(request, &served)?;
        let validation = if pairs.is_empty() {
            Validation::of_bundle(&served, threshold).map_err(|error| status::from_no_reference(&error))?
        } else {
            Validation::of_pairs(&pairs, threshold)
        };
        let validated = validation.run(&served.embedder).await.map_err(|error| status::from_probe_error(&error))?;
        Ok(write::validated(&validated))
    }

    /// Validates a benchmark request, and acquires the permit to run it.
    fn plan(&self, request: proto::BenchmarkRequest) -> Result<(Arc<Served>, Plan, OperationLock), Status> {
        let served = self.served()?;
        let proto::BenchmarkRequest { token_counts, batch_sizes, concurrencies, requests } = request;
        let options = BenchmarkOptions { token_counts, batch_sizes, concurrencies, requests };
        let mut violations = Violations::default();
        let plan = Plan::check(options, &served.embedder, &mut violations)
            .map_err(|error| status::from_probe_error(&error))?
            .ok_or_else(|| status::invalid(&violations))?;
        let permit = self.operations.begin_benchmark().ok_or_else(status::benchmark_running)?;
        Ok((served, plan, permit))
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn validate(
        &self,
        request: Request<proto::ValidateRequest>,
    ) -> Result<Response<proto::ValidateResponse>, Status> {
        let (headers, _, request) = request.into_parts();
        self.run(&headers, async { self.validate(request).await.map(Response::new) }).await
    }

    type BenchmarkStream = ReceiverStream<Event>;

    async fn benchmark(
        &self,
        request: Request<proto::BenchmarkRequest>,
    ) -> Result<Response<Self::BenchmarkStream>, Status> {
        let (served, plan, permit) = self.plan(request.into_inner())?;
        let (events, stream) = mpsc::channel(MAX_UNREAD);
        let stopping = self.stopping.clone();
        let call = BenchmarkCall { events, stopping, _permit: permit, _in_flight: self.requests.token() };
        tokio::spawn(call.run(served, plan));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_stats(
        &self,
        request: Request<proto::GetStatsRequest>,
    ) -> Result<Response<proto::GetStatsResponse>, Status> {
        let served = self.operations.served();
        let embedder = served.as_ref().map(|served| &*served.embedder);
        let operation = async { Ok(Response::new(write::stats(self.operations.stats(), embedder).await)) };
        self.run(request.metadata(), operation).await
    }

    async fn clear_cache(
        &self,
        request: Request<proto::ClearCacheRequest>,
    ) -> Result<Response<proto::ClearCacheResponse>, Status> {
        let operation = async {
            let entries = self.served()?.embedder.clear_cache().await;
            tracing::info!(entries, "cache cleared");
            Ok(Response::new(proto::ClearCacheResponse { entries }))
        };
        self.run(request.metadata(), operation).await
    }

    async fn reload_model(
        &self,
        request: Request<proto::ReloadModelRequest>,
    ) -> Result<Response<proto::ReloadModelResponse>, Status> {
        let (headers, _, request) = request.into_parts();
        let folder = Some(PathBuf::from(request.bundle)).filter(|folder| !folder.as_os_str().is_empty());
        let operation = async {
            let reloaded = self.operations.reload(folder).await.map_err(|error| status::from_reload_error(&error))?;
            Ok(Response::new(write::reloaded(&reloaded)))
        };
        self.run(&headers, operation).await
    }
}

struct BenchmarkCall {
    events: mpsc::Sender<Event>,
    stopping: CancellationToken,
    _permit: OperationLock,
    _in_flight: TaskTrackerToken,
}

impl BenchmarkCall {
    async fn run(self, served: Arc<Served>, plan: Plan) {
        let outcome = tokio::select! {
            outcome = self.measure(served, plan) => outcome,
            () = self.stopping.cancelled() => Err(status::stopping()),
            // The caller has disconnected.
            () = self.events.closed() => return,
        };
        let reply = outcome.map(|rows| write::event(proto::benchmark_response::Event::Result(write::rows(&rows))));
        // Fails only if the caller has disconnected.
        let _ = self.events.send(reply).await;
    }

    /// Runs the benchmark and forwards its progress.
    async fn measure(&self, served: Arc<Served>, plan: Plan) -> Result<Vec<Row>, Status> {
        let (reports, mut progress) = mpsc::channel(1);
        let run = benchmark::run(Arc::clone(&served.embedder), plan, reports);
        let forward = async {
            while let Some(progress) = progress.recv().await {
                // A slow caller misses some progress, but never the result.
                let _ = self.events.try_send(Ok(write::event(write::progress(&progress))));
            }
        };
        let (rows, ()) = tokio::join!(run, forward);
        rows.map_err(|error| status::from_probe_error(&error))
    }
}
