use super::super::wire::Vector;
use super::*;

const STEP: Step = Step::Closed { concurrency: 2 };

fn vector(bits: &'static [u8], cached: bool) -> Vector {
    Vector { values: Bytes::from_static(bits), token_count: 11, cached, ..Default::default() }
}

fn draw(indices: &[usize], tokens: u32) -> Draw {
    Draw { texts: Vec::new(), indices: indices.to_vec(), tokens: Some(tokens) }
}

fn answer(measure: &mut Measure, draw: &Draw, reply: &Reply, ms: u64, expected: Option<&[Bytes]>) {
    let elapsed = Duration::from_millis(ms);
    let at = Instant::now();
    let answered = Answered { draw, sent_bytes: 10, reply, received_bytes: 100, latency: elapsed, elapsed, at };
    measure.answered(&answered, expected);
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= b * 0.002
}

#[test]
fn latencies_and_rates_match_the_recorded_requests() {
    let mut measure = Measure::new();
    let reply = Reply { embeddings: vec![vector(b"a", false)], timings: None };
    for ms in 1..=1000 {
        answer(&mut measure, &draw(&[], 11), &reply, ms, None);
    }
    let figures = measure.figures(STEP, 1, Duration::from_secs(10), false);
    let latency = figures.latency.expect("latencies");
    assert_eq!((figures.requests, latency.count, figures.wrong_length), (1000, 1000, 0));
    assert_eq!((figures.requests_per_s, figures.tokens_per_s), (100.0, 1100.0));
    assert_eq!((figures.sent_bytes, figures.received_bytes), (10_000, 100_000));
    for (found, expected) in [
        (latency.min_ms, 1.0),
        (latency.mean_ms, 500.5),
        (latency.p50_ms, 500.0),
        (latency.p90_ms, 900.0),
        (latency.p95_ms, 950.0),
        (latency.p99_ms, 990.0),
        (latency.p99_9_ms, 999.0),
        (latency.max_ms, 1000.0),
    ] {
        assert!(near(found, expected), "{found} instead of {expected}");
    }
    assert_eq!((figures.times, figures.refused, figures.mismatches), (None, None, None));
    assert_eq!(figures.codes, [("OK".to_owned(), 1000)].into());
}

#[test]
fn rejected_requests_are_timed_separately_and_every_code_is_counted() {
    let mut measure = Measure::new();
    for message in ["full", "full again"] {
        measure.failed(&Status::resource_exhausted(message), Duration::from_millis(2), Instant::now());
    }
    measure.failed(&Status::unavailable("gone"), Duration::from_secs(9), Instant::now());
    measure.not_sent();
    let figures = measure.figures(STEP, 1, Duration::from_secs(1), false);
    assert_eq!((figures.latency, figures.requests, figures.not_sent), (None, 0, 1));
    let refused = figures.refused.expect("rejected requests");
    assert!(refused.count == 2 && near(refused.max_ms, 2.0), "{refused:?}");
    assert_eq!(figures.codes, [("RESOURCE_EXHAUSTED".to_owned(), 2), ("UNAVAILABLE".to_owned(), 1)].into());
    assert_eq!(figures.messages["RESOURCE_EXHAUSTED"], "full");
    assert!(measure.last().is_some());
}

#[test]
fn each_embedding_is_compared_with_that_of_its_own_text() {
    let mut measure = Measure::new();
    let expected = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    let reply = Reply { embeddings: vec![vector(b"b", true), vector(b"a", false)], timings: None };
    answer(&mut measure, &draw(&[1, 0], 22), &reply, 1, Some(&expected));
    answer(&mut measure, &draw(&[1, 1], 23), &reply, 1, Some(&expected));
    let figures = measure.figures(STEP, 1, Duration::from_secs(1), true);
    assert_eq!((figures.mismatches, figures.wrong_length), (Some(1), 1));
    assert_eq!((figures.cached_share, figures.texts), (0.5, 4));
}

#[test]
fn the_overhead_excludes_queueing_and_inference() {
    let mut measure = Measure::new();
    let ms = |ms: i32| Some(WireDuration { seconds: 0, nanos: ms * 1_000_000 });
    let timings = embedd_proto::Timings { tokenize: ms(1), queue: ms(2), infer: ms(5), total: ms(8) };
    let reply = Reply { embeddings: vec![vector(b"b", false)], timings: Some(timings) };
    answer(&mut measure, &draw(&[], 11), &reply, 10, None);
    let times = measure.figures(STEP, 1, Duration::from_secs(1), false).times.expect("timings");
    assert!(near(times.queue_p50_ms, 2.0) && near(times.infer_p50_ms, 5.0), "{times:?}");
    assert!(near(times.total_p50_ms, 8.0) && near(times.overhead_p50_ms, 3.0), "{times:?}");
}
