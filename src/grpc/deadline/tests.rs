use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Code;
use tower::service_fn;

use super::*;

fn request(timeout: Option<&str>) -> Request<()> {
    let mut request = Request::new(());
    if let Some(timeout) = timeout {
        request.headers_mut().insert(TIMEOUT_HEADER, timeout.parse().expect("a header value"));
    }
    request
}

fn code(response: &Response<Body>) -> Option<Code> {
    Status::from_header_map(response.headers()).map(|status| status.code())
}

/// Calls a service that takes `takes`. Returns the status code, and whether the service ran to completion.
async fn call(takes: Duration, timeout: Option<&str>) -> (Option<Code>, bool) {
    let done = Arc::new(AtomicBool::new(false));
    let inner = Arc::clone(&done);
    let mut service = DeadlineLayer.layer(service_fn(move |_: Request<()>| {
        let done = Arc::clone(&inner);
        async move {
            tokio::time::sleep(takes).await;
            done.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    }));
    let response = service.call(request(timeout)).await.expect("infallible");
    (code(&response), done.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_call_is_dropped_at_its_timeout_and_fails_with_deadline_exceeded() {
    let exceeded = Some(Code::DeadlineExceeded);
    let second = Duration::from_secs(1);
    assert_eq!(call(second, None).await, (None, true));
    assert_eq!(call(second, Some("2S")).await, (None, true));
    let started = Instant::now();
    assert_eq!(call(second, Some("50m")).await, (exceeded, false));
    assert_eq!(started.elapsed(), Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_is_not_started() {
    for timeout in ["0n", "0S"] {
        assert_eq!(call(Duration::ZERO, Some(timeout)).await, (Some(Code::DeadlineExceeded), false), "{timeout}");
    }
}

#[tokio::test]
async fn a_panic_fails_only_its_own_call() {
    let mut service = DeadlineLayer.layer(service_fn(|request: Request<()>| async move {
        assert!(request.headers().is_empty(), "a bug");
        Ok::<_, Infallible>(Response::new(Body::empty()))
    }));
    let panicked = service.call(request(Some("1H"))).await.expect("infallible");
    assert_eq!(code(&panicked), Some(Code::Internal));
    let fine = service.call(request(None)).await.expect("infallible");
    assert_eq!(code(&fine), None);
}

#[test]
fn timeouts_are_parsed_as_the_protocol_defines_them() {
    let read = |text: &str| timeout(request(Some(text)).headers());
    let cases = [("1H", 3_600_000), ("2M", 120_000), ("3S", 3000), ("45m", 45), ("99999999m", 99_999_999), ("0S", 0)];
    for (text, millis) in cases {
        assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
    }
    assert_eq!((read("7u"), read("7n")), (Some(Duration::from_micros(7)), Some(Duration::from_nanos(7))));
    for wrong in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S", "+1S"] {
        assert_eq!(read(wrong), None, "{wrong:?}");
    }
    assert_eq!(timeout(&HeaderMap::new()), None);
}

#[tokio::test(start_paused = true)]
async fn the_header_is_parsed_once_and_later_layers_find_the_same_deadline() {
    let mut request = request(Some("1S"));
    let first = Deadline::start(&mut request).expect("a deadline");
    request.headers_mut().clear();
    tokio::time::advance(Duration::from_millis(500)).await;
    let second = Deadline::start(&mut request).expect("the same deadline");
    assert_eq!(first.0, second.0);
}
