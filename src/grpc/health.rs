//! `grpc.health.v1.Health`: what the server says of itself to Kubernetes and load balancers.

use std::sync::Arc;

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthRpc, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

use super::MAX_NAME_REQUEST_BYTES;
use super::protocols::{ADMIN, Protocols};
use crate::readiness::{Phase, Readiness};

/// The whole server, in the protocol's terms.
const SERVER: &str = "";

/// Health of the server and its services; NOT_SERVING until told otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    /// Beside the services, on their listeners.
    services: HealthReporter,
    /// On a listener of its own, which outlasts the others.
    probes: HealthReporter,
    /// The server, and the services that need a model.
    with_model: Arc<[&'static str]>,
    /// For those who tell it by other means.
    readiness: Readiness,
}

impl Health {
    /// NOT_SERVING, all of it but the admin service, which needs no model.
    pub(crate) async fn not_yet_serving(protocols: Protocols, readiness: Readiness) -> Self {
        let services = protocols.spoken().flat_map(|protocol| protocol.services).copied();
        let health = Self {
            services: HealthReporter::new(),
            probes: HealthReporter::new(),
            with_model: std::iter::once(SERVER).chain(services).collect(),
            readiness,
        };
        health.readiness.enter(Phase::Loading);
        health.set(health.with_model(), ServingStatus::NotServing).await;
        health.set(health.without_model(), ServingStatus::Serving).await;
        health
    }

    /// A session has answered: requests are welcome.
    pub(crate) async fn serving(&self) {
        self.set(self.with_model(), ServingStatus::Serving).await;
        self.readiness.enter(Phase::Ready);
    }

    /// No new requests, please.
    pub(crate) async fn not_serving(&self) {
        self.readiness.enter(Phase::Stopping);
        self.set(self.all(), ServingStatus::NotServing).await;
    }

    /// Whether requests are welcome.
    pub(super) fn is_serving(&self) -> bool {
        self.readiness.phase() == Phase::Ready
    }

    /// Ends the streams of those who watch beside the services; they would keep their connections open for ever.
    pub(crate) async fn end_watches(&self) {
        self.end(self.services.clone()).await;
    }

    /// As [`end_watches`](Self::end_watches), on the listener of its own.
    pub(crate) async fn end_probes(&self) {
        self.end(self.probes.clone()).await;
    }

    pub(super) fn service(&self) -> HealthServer<impl HealthRpc> {
        server_of(&self.services)
    }

    pub(super) fn probe_service(&self) -> HealthServer<impl HealthRpc> {
        server_of(&self.probes)
    }

    fn with_model(&self) -> impl Iterator<Item = &'static str> {
        self.with_model.iter().copied()
    }

    fn without_model(&self) -> impl Iterator<Item = &'static str> {
        ADMIN.services.iter().copied()
    }

    fn all(&self) -> impl Iterator<Item = &'static str> {
        self.with_model().chain(self.without_model())
    }

    async fn set(&self, services: impl Iterator<Item = &'static str>, status: ServingStatus) {
        for service in services {
            for reporter in [&self.services, &self.probes] {
                reporter.set_service_status(service, status).await;
            }
        }
    }

    async fn end(&self, mut reporter: HealthReporter) {
        for service in self.all() {
            reporter.clear_service_status(service).await;
        }
    }
}

fn server_of(reporter: &HealthReporter) -> HealthServer<HealthService> {
    HealthServer::new(HealthService::from_health_reporter(reporter.clone()))
        .max_decoding_message_size(MAX_NAME_REQUEST_BYTES)
}
