//! `grpc.health.v1.Health`: what the server says of itself to Kubernetes and load balancers.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthRpc, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

use crate::proto::admin_service_server::SERVICE_NAME as ADMIN;
use crate::proto::embedding_service_server::SERVICE_NAME as EMBEDDING;
use crate::readiness::{Phase, Readiness};

/// The whole server, in the protocol's terms.
const SERVER: &str = "";
const ALL: [&str; 3] = [SERVER, EMBEDDING, ADMIN];

/// Health of the server and its services; NOT_SERVING until told otherwise.
#[derive(Debug, Clone)]
pub struct Health {
    /// Beside the services, on their listeners.
    services: HealthReporter,
    /// On a listener of its own, which outlasts the others.
    probes: HealthReporter,
    /// For those who tell it by other means.
    readiness: Readiness,
}

impl Health {
    /// NOT_SERVING, all of it but the admin service, which needs no model.
    pub async fn not_yet_serving(readiness: Readiness) -> Self {
        let health = Self { services: HealthReporter::new(), probes: HealthReporter::new(), readiness };
        health.readiness.enter(Phase::Loading);
        health.set(&[SERVER, EMBEDDING], ServingStatus::NotServing).await;
        health.set(&[ADMIN], ServingStatus::Serving).await;
        health
    }

    /// A session has answered: requests are welcome.
    pub async fn serving(&self) {
        self.set(&[SERVER, EMBEDDING], ServingStatus::Serving).await;
        self.readiness.enter(Phase::Ready);
    }

    /// No new requests, please.
    pub async fn not_serving(&self) {
        self.readiness.enter(Phase::Stopping);
        self.set(&ALL, ServingStatus::NotServing).await;
    }

    /// Ends the streams of those who watch beside the services; they would keep their connections open for ever.
    pub async fn end_watches(&self) {
        end_watches(self.services.clone()).await;
    }

    /// As [`end_watches`](Self::end_watches), on the listener of its own.
    pub async fn end_probes(&self) {
        end_watches(self.probes.clone()).await;
    }

    pub(super) fn service(&self) -> HealthServer<impl HealthRpc> {
        HealthServer::new(HealthService::from_health_reporter(self.services.clone()))
    }

    pub(super) fn probe_service(&self) -> HealthServer<impl HealthRpc> {
        HealthServer::new(HealthService::from_health_reporter(self.probes.clone()))
    }

    async fn set(&self, services: &[&str], status: ServingStatus) {
        for service in services {
            for reporter in [&self.services, &self.probes] {
                reporter.set_service_status(*service, status).await;
            }
        }
    }
}

async fn end_watches(mut reporter: HealthReporter) {
    for service in ALL {
        reporter.clear_service_status(service).await;
    }
}
