//! Health checks of servers.

use std::time::Duration;

use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{CallError, Connection};

/// The maximum time to wait for a server's response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The health that a server reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It accepts calls.
    Serving,
    /// It is loading its model, or shutting down.
    NotServing,
    /// The check failed, for this reason.
    Unknown(String),
}

/// Checks the health of the server as a whole. Returns whether it is SERVING.
///
/// # Errors
/// [`CallError`] if the server does not answer.
pub async fn is_serving(connection: Connection) -> Result<bool, CallError> {
    let response =
        HealthClient::new(connection).check(HealthCheckRequest::default()).await.map_err(CallError::of("Check"))?;
    Ok(response.into_inner().status() == ServingStatus::Serving)
}

/// Checks a server's health, within the deadline.
pub(crate) async fn check(channel: Channel, deadline: Option<Duration>) -> Health {
    let timeout = deadline.map_or(TIMEOUT, |deadline| deadline.min(TIMEOUT));
    let mut service = HealthClient::new(channel);
    match tokio::time::timeout(timeout, service.check(HealthCheckRequest::default())).await {
        Ok(Ok(reply)) if reply.get_ref().status() == ServingStatus::Serving => Health::Serving,
        Ok(Ok(_)) => Health::NotServing,
        Ok(Err(status)) => Health::Unknown(status.message().to_owned()),
        Err(_) => Health::Unknown(format!("no answer within {timeout:?}")),
    }
}
