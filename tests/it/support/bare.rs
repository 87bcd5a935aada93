//! gRPC calls from a client that does not enforce deadlines itself.
//!
//! tonic's client ends a call when the deadline that it has sent expires, at about the same time as the server. Which
//! of the two statuses the caller gets depends on the machine. Here it is always the server's.

use h2::{RecvStream, SendStream};
use http::{HeaderMap, Response};
use prost::Message;
use prost::bytes::{BufMut as _, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::{Request, Status};

use super::PATIENCE;
use super::server::Server;

/// The status of a call with one message.
pub(crate) async fn call<M: Message>(server: &Server, method: &str, request: Request<M>) -> Status {
    let (metadata, _, message) = request.into_parts();
    send(server, method, metadata.into_headers(), |body| {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(message.encoded_len() as u32);
        frame.put(message.encode_to_vec().as_slice());
        body.send_data(frame.freeze(), true).expect("sent");
    })
    .await
}

/// The status of a call whose body is sent as it is.
pub(crate) async fn call_with_body(server: &Server, method: &str, request: Request<Vec<u8>>) -> Status {
    let (metadata, _, body) = request.into_parts();
    send(server, method, metadata.into_headers(), |stream| stream.send_data(body.into(), true).expect("sent")).await
}

/// The status of a call whose caller keeps its stream of requests open and sends nothing.
pub(crate) async fn call_and_send_nothing(server: &Server, method: &str, request: Request<()>) -> Status {
    send(server, method, request.into_parts().0.into_headers(), |_| {}).await
}

async fn send(
    server: &Server,
    method: &str,
    mut headers: HeaderMap,
    send_body: impl FnOnce(&mut SendStream<Bytes>),
) -> Status {
    let stream = TcpStream::connect(server.address).await.expect("a connection");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut request = http::Request::post(format!("{}/{method}", server.url()));
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        headers.insert(name, value.parse().expect("a value"));
    }
    *request.headers_mut().expect("a request") = headers;
    let request = request.body(()).expect("a request");
    let (response, mut body) = sender.ready().await.expect("a connection").send_request(request, false).expect("sent");
    send_body(&mut body);
    let status = async { status_of(response.await.expect("a response")).await };
    let status = timeout(PATIENCE, status).await.expect("the call ends");
    connection.abort();
    status
}

/// A response without messages has its status in its headers.
async fn status_of(response: Response<RecvStream>) -> Status {
    let (head, mut body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return status;
    }
    while let Some(part) = body.data().await {
        let size = part.expect("data").len();
        body.flow_control().release_capacity(size).expect("an open stream");
    }
    let trailers = body.trailers().await.expect("trailers").expect("trailers");
    Status::from_header_map(&trailers).expect("a status")
}
