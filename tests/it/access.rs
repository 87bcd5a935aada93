//! Access to the server: TLS, tokens and connection limits.

mod connections;
mod tls;
mod tokens;

use std::net::SocketAddr;

use embedd_proto::GetModelRequest;
use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const RELOADED: &str = "reloaded";
const NOT_RELOADED: &str = "not reloaded; the previous contents stay in effect";

/// A connection, encrypted if `tls` is given.
async fn connect(address: SocketAddr, tls: Option<ClientTlsConfig>) -> Result<Channel, tonic::transport::Error> {
    match tls {
        Some(tls) => {
            let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
            endpoint.tls_config(tls)?.connect().await
        }
        None => Endpoint::from_shared(format!("http://{address}")).expect("an address").connect().await,
    }
}

/// Calls GetModel on a new connection.
async fn call(address: SocketAddr, tls: Option<ClientTlsConfig>) -> Result<(), String> {
    // With TLS 1.3 a client learns only after its handshake that its certificate was rejected.
    let channel = connect(address, tls).await.map_err(|error| format!("{error:?}"))?;
    get_model(channel, None).await.map_err(|status| format!("{status:?}"))
}

async fn get_model(channel: Channel, authorization: Option<&str>) -> Result<(), Status> {
    let mut client = EmbeddingServiceClient::new(channel);
    client.get_model(with(authorization, GetModelRequest {})).await.map(drop)
}

fn with<T>(authorization: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(authorization) = authorization {
        let value: AsciiMetadataValue = authorization.parse().expect("metadata");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

async fn health(channel: Channel) -> Result<ServingStatus, Status> {
    let checked = HealthClient::new(channel).check(HealthCheckRequest::default()).await?;
    Ok(checked.into_inner().status())
}
