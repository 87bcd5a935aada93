//! The servers of all listeners: start, readiness and drain.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::AppError;
use super::listeners::{Listeners, Protected};
use super::loader::Loader;
use super::probes::Probes;
use super::sockets::Sockets;
use super::watchdog;
use crate::admin::Operations;
use crate::config::Settings;
use crate::grpc::{AdminListener, EmbeddingListener, Health, HealthListener, Protocols, TransportLimits};
use crate::http::{Api, Apis, ConnectionPermits, History, HttpListener, Page};
use crate::metrics::Metrics;
use crate::model_slot::{ModelSlot, Served};
use crate::net::ListenerConfig;
use crate::readiness::Readiness;
use crate::serving::Serving;
use crate::stats::Stats;
use crate::tokens::Tokens;
use crate::trace::Traces;

pub(super) struct Servers {
    serving: Serving,
    health: Health,
    stop: CancellationToken,
    /// All servers except those of probes.
    tasks: TaskTracker,
    probes: Probes,
}

/// The state that the servers share.
struct Shared<'s> {
    settings: &'s Settings,
    serving: Serving,
    health: Health,
    readiness: Readiness,
    limits: TransportLimits,
    traces: Traces,
}

impl Servers {
    /// Opens all listeners and serves everything that does not need a model.
    pub(super) async fn start(
        settings: &Settings,
        stats: Stats,
        traces: Traces,
        loader: Arc<Loader>,
    ) -> Result<Self, AppError> {
        let listeners = Listeners::open(settings)?;
        let sockets = Sockets::open(settings).await?;
        let readiness = Readiness::default();
        let health = Health::not_yet_serving(protocols(settings), readiness.clone()).await;
        let serving = Serving {
            model: ModelSlot::default(),
            requests: TaskTracker::new(),
            stats,
            default_priority: settings.default_priority,
        };
        let shared = Shared { settings, serving, health, readiness, limits: listeners.limits, traces };
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let probes = Probes::new();

        let tokens = listeners.service.tokens.clone();
        let page = shared.page(&sockets);
        tasks.spawn(shared.embedding(listeners.service).serve(sockets.service, stop.clone()));
        if let Some(socket) = sockets.admin {
            tasks.spawn(shared.admin(loader, listeners.admin).serve(socket, stop.clone()));
        }
        tasks.close();
        let apis = are_served(listeners.http_api).then(|| shared.apis(shared.api(tokens, &tasks, &stop), page));
        let http = shared.http(listeners.http, apis);
        probes.start(sockets.http, |socket, stop| http.serve(socket, stop));
        let health_only = shared.health_only(listeners.health);
        probes.start(sockets.health, |socket, stop| health_only.serve(socket, stop));
        let Shared { serving, health, .. } = shared;
        if let Some(limit) = settings.watchdog {
            let model = serving.model.clone();
            let fault = move |limit| model.get().and_then(|embedder| embedder.fault(limit));
            tokio::spawn(watchdog::watch(health.clone(), limit, fault));
        }
        Ok(Self { serving, health, stop, tasks, probes })
    }

    pub(super) async fn ready(&self, served: Served) {
        self.serving.model.replace(Some(Arc::new(served)));
        self.health.serving().await;
        tracing::info!("ready");
    }

    /// Reports NOT_SERVING, gives load balancers a grace period to notice, then closes the listeners and drains.
    pub(super) async fn stop(self, grace: Duration, drain: Duration) -> Result<(), AppError> {
        self.health.not_serving().await;
        tracing::info!(?grace, "stopping: health is NOT_SERVING");
        tokio::time::sleep(grace).await;
        self.health.end_watches().await;
        self.stop.cancel();
        tracing::info!(timeout = ?drain, "draining");
        let drained = tokio::time::timeout(drain, self.tasks.wait()).await;
        self.probes.end(&self.health).await;
        if drained.is_err() {
            let requests = self.serving.requests.len();
            if requests > 0 {
                return Err(AppError::DrainTimeout { requests, timeout: drain });
            }
            tracing::warn!("some clients did not close their connections; none had a request in flight");
        }
        tracing::info!("drained");
        Ok(())
    }
}

impl Shared<'_> {
    fn embedding(&self, listener: Protected) -> EmbeddingListener {
        EmbeddingListener {
            serving: self.serving.clone(),
            health: self.health.clone(),
            limits: self.limits,
            protocols: protocols(self.settings),
            reflection: self.settings.reflection,
            traces: self.traces.clone(),
            tokens: listener.tokens,
            config: listener.config,
        }
    }

    fn admin(&self, loader: Arc<Loader>, listener: Protected) -> AdminListener {
        let Serving { model, requests, stats, .. } = self.serving.clone();
        AdminListener {
            operations: Operations::new(model, loader, stats.clone()),
            health: self.health.clone(),
            requests,
            reflection: self.settings.reflection,
            stats,
            traces: self.traces.clone(),
            tokens: listener.tokens,
            config: listener.config,
        }
    }

    fn http(&self, config: ListenerConfig, apis: Option<Apis>) -> HttpListener {
        let Serving { model, stats, .. } = self.serving.clone();
        HttpListener { metrics: Metrics::new(stats, model, self.readiness.clone()), config, apis }
    }

    fn apis(&self, api: Api, page: Option<Page>) -> Apis {
        let Settings { tei, open_inference, .. } = *self.settings;
        Apis { api, tei, open_inference, page }
    }

    /// The web page, if it is enabled.
    fn page(&self, sockets: &Sockets) -> Option<Page> {
        let Settings { tei, page, listen, .. } = *self.settings;
        let address = sockets.service.local_addr().unwrap_or(listen);
        let grpc_tls = self.settings.tls_certificate.is_some();
        page.then(|| Page { history: History::default(), grpc_port: address.port(), grpc_tls, tei })
    }

    /// The drain waits for connections with calls, which are among the `tasks`. On connections made after `stop`, calls
    /// are rejected.
    fn api(&self, tokens: Option<Tokens>, tasks: &TaskTracker, stop: &CancellationToken) -> Api {
        Api {
            serving: self.serving.clone(),
            tokens,
            max_body_bytes: self.limits.max_message_bytes,
            max_texts: self.settings.http_max_texts,
            cors: self.settings.cors_origin.clone(),
            gzip_replies: self.settings.gzip_replies,
            permits: ConnectionPermits::new(self.settings.max_connections, tasks.clone()),
            readiness: self.readiness.clone(),
            stop: stop.clone(),
            traces: self.traces.clone(),
        }
    }

    fn health_only(&self, config: ListenerConfig) -> HealthListener {
        HealthListener { health: self.health.clone(), stats: self.serving.stats.clone(), config }
    }
}

/// The protocols that are served in addition to `embedd.v1`.
fn protocols(settings: &Settings) -> Protocols {
    Protocols { tei: settings.tei, open_inference: settings.open_inference }
}

/// Logs and returns whether the HTTP port serves APIs.
fn are_served(apis: Result<(), &'static str>) -> bool {
    match apis {
        Ok(()) => tracing::info!("the HTTP port serves APIs"),
        Err(reason) => tracing::info!(reason, "the HTTP port serves no APIs"),
    }
    apis.is_ok()
}
