//! `grpc.health.v1.Health`: the health that is reported to Kubernetes and load balancers.

use std::sync::Arc;

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthRpc, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

use super::MAX_NAME_REQUEST_BYTES;
use super::protocols::{ADMIN, Protocols};
use crate::readiness::{Phase, Readiness};

mod blame_caller;

use blame_caller::BlameCaller;

/// The protocol's name for the server as a whole.
const SERVER: &str = "";

/// The health of the server and of each of its services.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    /// Served on the same listeners as the services.
    services: HealthReporter,
    /// Served on a separate listener, which closes after the others.
    probes: HealthReporter,
    /// The server as a whole, and the services that need a model.
    with_model: Arc<[&'static str]>,
    /// Shared with the HTTP port and the metrics.
    readiness: Readiness,
}

impl Health {
    /// Everything is NOT_SERVING except the admin service, which needs no model.
    pub(crate) async fn not_yet_serving(protocols: Protocols, readiness: Readiness) -> Self {
        let services = protocols.enabled().flat_map(|protocol| protocol.services).copied();
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

    /// The model is ready.
    pub(crate) async fn serving(&self) {
        self.set(self.with_model(), ServingStatus::Serving).await;
        self.readiness.enter(Phase::Ready);
    }

    /// A session does not work, or all of them work again.
    pub(crate) async fn faulty(&self, is_faulty: bool) {
        let (from, to, status) = match is_faulty {
            true => (Phase::Ready, Phase::Faulty, ServingStatus::NotServing),
            false => (Phase::Faulty, Phase::Ready, ServingStatus::Serving),
        };
        if self.readiness.enter_from(from, to) {
            self.set(self.with_model(), status).await;
        }
        if self.readiness.phase() == Phase::Stopping {
            self.set(self.all(), ServingStatus::NotServing).await;
        }
    }

    /// The server is about to stop.
    pub(crate) async fn not_serving(&self) {
        self.readiness.enter(Phase::Stopping);
        self.set(self.all(), ServingStatus::NotServing).await;
    }

    pub(super) fn is_serving(&self) -> bool {
        self.readiness.phase() == Phase::Ready
    }

    /// Ends the watch streams on the listeners of the services; they would keep their connections open forever.
    pub(crate) async fn end_watches(&self) {
        self.end(self.services.clone()).await;
    }

    /// Ends the watch streams on the separate listener.
    pub(crate) async fn end_probes(&self) {
        self.end(self.probes.clone()).await;
    }

    pub(super) fn service(&self) -> BlameCaller<HealthServer<impl HealthRpc>> {
        server_of(&self.services)
    }

    pub(super) fn probe_service(&self) -> BlameCaller<HealthServer<impl HealthRpc>> {
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

fn server_of(reporter: &HealthReporter) -> BlameCaller<HealthServer<HealthService>> {
    let service = HealthService::from_health_reporter(reporter.clone());
    BlameCaller(HealthServer::new(service).max_decoding_message_size(MAX_NAME_REQUEST_BYTES))
}
