//! Whether servers serve, as their health service says.

use std::time::Duration;

use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Connection, Refused};

/// A server that has not told its health by then does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Serving,
    /// It is loading its model, or stopping.
    NotServing,
    /// It cannot be asked: why.
    Unknown(String),
}

/// Asks for the health of the server as a whole; true where it is SERVING.
///
/// # Errors
/// [`Refused`]: it gives no answer.
pub async fn is_serving(connection: Connection) -> Result<bool, Refused> {
    let response = HealthClient::new(connection).check(HealthCheckRequest::default()).await?;
    Ok(response.into_inner().status() == ServingStatus::Serving)
}

/// What the server at the other end says within the deadline.
pub(super) async fn of(channel: Channel, deadline: Option<Duration>) -> Health {
    let patience = deadline.map_or(PATIENCE, |deadline| deadline.min(PATIENCE));
    let mut service = HealthClient::new(channel);
    match tokio::time::timeout(patience, service.check(HealthCheckRequest::default())).await {
        Ok(Ok(reply)) if reply.get_ref().status() == ServingStatus::Serving => Health::Serving,
        Ok(Ok(_)) => Health::NotServing,
        Ok(Err(status)) => Health::Unknown(status.message().to_owned()),
        Err(_) => Health::Unknown(format!("no answer within {patience:?}")),
    }
}
