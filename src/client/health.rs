//! Whether a server serves, as its health service says.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Connection, Refused};

/// Asks for the health of the server as a whole; true where it is SERVING.
///
/// # Errors
/// [`Refused`]: it gives no answer.
pub async fn is_serving(connection: Connection) -> Result<bool, Refused> {
    let response = HealthClient::new(connection).check(HealthCheckRequest::default()).await?;
    Ok(response.into_inner().status() == ServingStatus::Serving)
}
