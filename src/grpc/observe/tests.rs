use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use http_body::Body as _;
use prost::Message as _;
use tonic::codegen::http;
use tower::service_fn;

use super::*;

const PATH: &str = "/embedd.v1.EmbeddingService/Embed";

/// The frames of a reply in reverse order.
struct Frames(Vec<Option<Frame<Bytes>>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Status;

    /// A `None` in the list stalls the body forever.
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(None) = self.0.last() {
            return Poll::Pending;
        }
        Poll::Ready(self.0.pop().flatten().map(Ok))
    }
}

fn message() -> Option<Frame<Bytes>> {
    Some(Frame::data(Bytes::from_static(b"message")))
}

fn trailers(code: &'static str) -> Option<Frame<Bytes>> {
    let headers = [(STATUS.parse().expect("a name"), code.parse().expect("a value"))];
    Some(Frame::trailers(headers.into_iter().collect()))
}

fn request(path: &str, timeout: Option<&str>) -> Request<()> {
    let request = Request::builder().uri(path);
    timeout.into_iter().fold(request, |request, timeout| request.header("grpc-timeout", timeout)).body(()).expect("one")
}

fn layer(stats: &Stats) -> ObserveLayer {
    ObserveLayer { stats: stats.clone(), traces: Traces::default() }
}

/// Calls a service that replies with these frames, and reads up to `taken` of them.
async fn call(stats: &Stats, request: Request<()>, frames: Vec<Option<Frame<Bytes>>>, taken: usize) {
    let mut frames = Some(frames);
    let mut service = layer(stats).layer(service_fn(move |_: Request<()>| {
        let body = Body::new(Frames(frames.take().expect("one call")));
        async { Ok::<_, Infallible>(Response::new(body)) }
    }));
    let mut body = service.call(request).await.expect("infallible").into_body();
    for _ in 0..taken {
        let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let _ = tokio::time::timeout(Duration::from_millis(10), next).await;
    }
}

fn replies(stats: &Stats, method: Method) -> Vec<(i32, u64)> {
    stats.snapshot().methods.into_iter().find(|one| one.method == method).expect("every method").replies
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_counted_once_with_the_code_of_its_trailers() {
    let stats = Stats::default();
    call(&stats, request(PATH, None), vec![trailers("0"), message()], 5).await;
    call(&stats, request(PATH, None), vec![trailers("14"), message(), message()], 3).await;
    call(&stats, request(PATH, None), vec![message()], 5).await;
    assert_eq!(replies(&stats, Method::Embed), [(0, 1), (2, 1), (14, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_not_read_to_its_end_counts_as_cancelled_or_deadline_exceeded() {
    let stats = Stats::default();
    call(&stats, request(PATH, None), vec![trailers("0"), message()], 1).await;
    call(&stats, request(PATH, Some("1S")), vec![trailers("0"), message()], 1).await;
    call(&stats, request(PATH, Some("8m")), vec![None, message()], 2).await;
    assert_eq!(replies(&stats, Method::Embed), [(1, 2), (4, 1)]);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_counts_as_cancelled_or_deadline_exceeded_and_a_panic_as_internal() {
    let stats = Stats::default();
    let endless = |_: Request<()>| std::future::pending::<Result<Response<Body>, Infallible>>();
    let mut service = layer(&stats).layer(service_fn(endless));
    for timeout in [None, Some("5m"), Some("0n")] {
        let call = service.call(request(PATH, timeout));
        assert!(tokio::time::timeout(Duration::from_millis(1), call).await.is_err());
    }
    let panics = |_: Request<()>| async { panic!("a bug") };
    let mut service = layer(&stats).layer(service_fn(panics));
    assert!(AssertUnwindSafe(service.call(request(PATH, None))).catch_unwind().await.is_err());
    assert_eq!(replies(&stats, Method::Embed), [(1, 2), (4, 1), (13, 1)]);
}

#[tokio::test]
async fn a_call_that_is_rejected_at_once_counts_with_the_code_of_its_headers() {
    let stats = Stats::default();
    let refuse = |_: Request<()>| async { Ok::<_, Infallible>(Status::unauthenticated("who are you?").into_http()) };
    let mut service = layer(&stats).layer(service_fn(refuse));
    for path in [PATH, "/other.Service/Call", "/other.Service/Call2", "/", ""] {
        let mut request = Request::new(());
        *request.uri_mut() = http::Uri::builder().path_and_query(path).build().unwrap_or_default();
        service.call(request).await.expect("infallible");
    }
    assert_eq!(replies(&stats, Method::Embed), [(16, 1)]);
    assert_eq!(replies(&stats, Method::Other), [(16, 4)]);
}

/// The paths of all methods in an encoded descriptor set.
fn described(descriptors: &[u8]) -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(descriptors).expect("descriptors");
    let services = set.file.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    services
        .flat_map(|(package, service)| {
            service.method.iter().map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
        })
        .collect()
}

#[test]
fn every_served_method_is_counted_under_its_own_name() {
    let services = [
        embedd_proto::FILE_DESCRIPTOR_SET,
        embedd_proto::tei::FILE_DESCRIPTOR_SET,
        embedd_proto::open_inference::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let paths: Vec<String> = services.into_iter().flat_map(described).collect();
    let methods: Vec<Method> = paths.iter().map(|path| Method::of_path(path)).collect();
    for (path, method) in paths.iter().zip(&methods) {
        assert_eq!(path[1..], *method.name());
    }
    assert_eq!(methods.len(), Method::ALL.len() - 1, "only `Other` is not the name of a method: {paths:?}");
}
