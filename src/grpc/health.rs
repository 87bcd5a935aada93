//! `grpc.health.v1.Health`: what the server says of itself to Kubernetes and load balancers.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthRpc, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

use crate::proto::admin_service_server::SERVICE_NAME as ADMIN;
use crate::proto::embedding_service_server::SERVICE_NAME as EMBEDDING;

/// The whole server, in the protocol's terms.
const SERVER: &str = "";

/// Health of the server and its services; NOT_SERVING until told otherwise.
#[derive(Debug, Clone)]
pub struct Health(HealthReporter);

impl Health {
    /// NOT_SERVING, all of it but the admin service, which needs no model.
    pub async fn not_yet_serving() -> Self {
        let health = Self(HealthReporter::new());
        health.set(ServingStatus::NotServing).await;
        health.0.set_service_status(ADMIN, ServingStatus::Serving).await;
        health
    }

    /// A session has answered: requests are welcome.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// No new requests, please.
    pub async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
        self.0.set_service_status(ADMIN, ServingStatus::NotServing).await;
    }

    /// Ends the streams of those who watch; they would keep their connections open for ever.
    pub async fn end_watches(&self) {
        let mut reporter = self.0.clone();
        for service in [SERVER, EMBEDDING, ADMIN] {
            reporter.clear_service_status(service).await;
        }
    }

    pub(super) fn service(&self) -> HealthServer<impl HealthRpc> {
        HealthServer::new(HealthService::from_health_reporter(self.0.clone()))
    }

    async fn set(&self, status: ServingStatus) {
        for service in [SERVER, EMBEDDING] {
            self.0.set_service_status(service, status).await;
        }
    }
}
