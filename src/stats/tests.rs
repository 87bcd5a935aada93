use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn snapshot_of(stats: &Stats, method: Method) -> MethodSnapshot {
    stats.snapshot().methods.into_iter().find(|snapshot| snapshot.method == method).expect("every method")
}

/// Times from 10 µs to 10 s, most of them short, like latencies.
fn times(count: u64) -> Vec<Duration> {
    let exponent = |index: u64| (index * 7919 % count) as f64 / count as f64;
    (0..count).map(|index| Duration::from_secs_f64(1e-5 * 1e6f64.powf(exponent(index).powi(2)))).collect()
}

#[test]
fn percentiles_of_a_list_are_exact() {
    let latency = Latency::of((1..=200).rev().map(ms).collect());
    let expected = Latency { count: 200, mean: ms(201) / 2, p50: ms(100), p95: ms(190), p99: ms(198), max: ms(200) };
    assert_eq!(latency, expected);
    let one = Latency { count: 1, mean: ms(7), p50: ms(7), p95: ms(7), p99: ms(7), max: ms(7) };
    assert_eq!(Latency::of(vec![ms(7)]), one);
    assert_eq!(Latency::of(vec![]), Latency::default());
}

#[test]
fn percentiles_of_a_window_are_within_one_percent_of_the_exact_ones() {
    for count in [1, 2, 3, 99, 1000, 12_345] {
        let started = Instant::now();
        let window = Window::new(started, WINDOW);
        times(count).into_iter().for_each(|took| window.record(started, took));
        let found = window.latency(started);
        let exact = Latency::of(times(count));
        assert_eq!((found.count, found.max), (exact.count, exact.max));
        for (found, exact) in
            [(found.mean, exact.mean), (found.p50, exact.p50), (found.p95, exact.p95), (found.p99, exact.p99)]
        {
            let ratio = found.as_secs_f64() / exact.as_secs_f64();
            assert!((0.99..=1.01).contains(&ratio), "{count} times: {found:?}, exact: {exact:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn latencies_expire_with_the_window_and_counts_do_not() {
    let stats = Stats::default();
    let call = stats.call(Method::Embed, None);
    tokio::time::advance(ms(300)).await;
    call.end(0);
    assert_eq!(snapshot_of(&stats, Method::Embed).latency, Latency::of(vec![ms(300)]));

    tokio::time::advance(ms(30_000)).await;
    let call = stats.call(Method::Embed, None);
    tokio::time::advance(ms(100)).await;
    call.end(3);
    assert_eq!(snapshot_of(&stats, Method::Embed).latency.count, 2);
    tokio::time::advance(ms(24_000)).await;
    assert_eq!(snapshot_of(&stats, Method::Embed).latency.count, 2, "54.4 s after the first");

    tokio::time::advance(ms(6_000)).await;
    let later = snapshot_of(&stats, Method::Embed);
    assert_eq!(later.latency, Latency::of(vec![ms(100)]), "60.4 s after the first");
    tokio::time::advance(ms(3_600_000)).await;
    let idle = snapshot_of(&stats, Method::Embed);
    assert_eq!(idle.latency, Latency::default());
    assert_eq!(idle.replies, [(0, 1), (3, 1)]);
    assert_eq!(stats.snapshot().uptime, ms(3_660_400));
}

#[tokio::test(start_paused = true)]
async fn a_reused_slice_is_empty() {
    let started = Instant::now();
    let window = Window::new(started, WINDOW);
    for second in 0..600 {
        window.record(started + ms(second * 1000), ms(second + 1));
    }
    let latency = window.latency(started + ms(599_000));
    assert_eq!((latency.count, latency.max), (60, ms(600)));
    assert_eq!(window.latency(started + ms(599_999)).count, 60, "still in the same slice");
    assert_eq!(window.latency(started + ms(600_000)).count, 55);
    assert_eq!(window.latency(started + ms(650_000)).count, 5);
    assert_eq!(window.latency(started + ms(655_000)).count, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_counts_as_cancelled_and_an_invalid_code_as_unknown() {
    let stats = Stats::default();
    drop(stats.call(Method::Embed, None));
    stats.call(Method::Embed, None).end(0);
    stats.call(Method::Embed, None).end(8);
    stats.call(Method::Embed, None).end(99);
    assert_eq!(snapshot_of(&stats, Method::Embed).replies, [(0, 1), (1, 1), (2, 1), (8, 1)]);
    assert_eq!(snapshot_of(&stats, Method::GetModel).replies, []);
}

#[tokio::test(start_paused = true)]
async fn stages_are_recorded_separately_and_skipped_ones_not_at_all() {
    let stats = Stats::default();
    stats.record_stage(Stage::Queue, ms(3));
    stats.record_stage(Stage::Infer, ms(5));
    stats.record_stage(Stage::Infer, Duration::ZERO);
    let counts = stats.snapshot().stages.into_iter().map(|(stage, latency)| (stage.name(), latency.count, latency.max));
    let expected = [("tokenize", 0, ms(0)), ("queue", 1, ms(3)), ("infer", 1, ms(5))];
    assert_eq!(counts.collect::<Vec<_>>(), expected);
}

#[test]
fn methods_and_stages_are_listed_in_the_order_of_their_variants() {
    for (index, method) in Method::ALL.into_iter().enumerate() {
        assert_eq!(method as usize, index, "{}", method.name());
    }
    for (index, stage) in Stage::ALL.into_iter().enumerate() {
        assert_eq!(stage as usize, index, "{}", stage.name());
    }
}

#[test]
fn batch_sizes_are_averaged_over_all_batchers() {
    let counters = Stats::default().batches().clone();
    assert_eq!(counters.with_queue(0, 8).mean_batch_texts, 0.0);
    counters.clone().count_batch(1, 11);
    counters.clone().count_batch(4, 29);
    counters.count_refused(7);
    let expected =
        QueueStats { depth: 2, capacity: 8, refused: 7, abandoned: 0, mean_batch_texts: 2.5, mean_batch_tokens: 20.0 };
    assert_eq!(counters.with_queue(2, 8), expected);
}

#[test]
fn no_call_is_lost_when_many_threads_record() {
    let stats = Stats::default();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..1000).for_each(|_| stats.call(Method::Embed, None).end(0)));
        }
    });
    let embed = snapshot_of(&stats, Method::Embed);
    assert_eq!((embed.latency.count, embed.replies), (8000, vec![(0, 8000)]));
}

#[test]
fn errors_of_all_protocols_are_counted_by_what_callers_can_do() {
    let stats = Stats::default();
    for code in [0, 1, 3, 5, 8, 13, 14, 16] {
        stats.call(Method::Embed, None).end(code);
    }
    stats.call(Method::HealthCheck, None).end(14);
    for status in [200, 204, 304, 400, 401, 404, 408, 429, 500, 501, 503] {
        stats.record_http_status(status);
    }
    assert_eq!(stats.errors(), ErrorTotals { rejected: 3 + 4, overloaded: 2 + 3, failed: 1 + 1 });
}

#[tokio::test(start_paused = true)]
async fn requests_and_their_texts_are_counted_and_their_latency_expires() {
    let stats = Stats::default();
    stats.record_request(3, ms(20));
    stats.record_request(1, ms(10));
    assert_eq!(stats.requests(), RequestTotals { requests: 2, texts: 4 });
    assert_eq!((stats.request_latency().count, stats.request_latency().max), (2, ms(20)));
    tokio::time::advance(ms(61_000)).await;
    assert_eq!((stats.request_latency(), stats.uptime()), (Latency::default(), ms(61_000)));
    assert_eq!(stats.requests().requests, 2);
}
