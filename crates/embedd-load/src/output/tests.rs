use super::super::figures::{Client, Latency, SCHEMA, Server, Settings, Times};
use super::super::plan::{Arrivals, Lengths};
use super::*;

const HOSTILE: &str = "<script>&\"'";

fn step(step: Step, texts_per_s: f64) -> StepFigures {
    let latency = Latency {
        count: 10,
        mean_ms: 5.0,
        min_ms: 1.0,
        p50_ms: 4.0,
        p90_ms: 6.0,
        p95_ms: 7.0,
        p99_ms: 8.0,
        p99_9_ms: 9.0,
        max_ms: 10.0,
    };
    StepFigures {
        step,
        connections: 2,
        seconds: 10.0,
        requests: 10,
        texts: 10,
        tokens: 110,
        requests_per_s: texts_per_s,
        texts_per_s,
        tokens_per_s: texts_per_s * 11.0,
        latency: Some(latency),
        refused: Some(Latency { p50_ms: 0.5, ..latency }),
        codes: [("OK".to_owned(), 10), ("RESOURCE_EXHAUSTED".to_owned(), 3)].into(),
        messages: [("RESOURCE_EXHAUSTED".to_owned(), format!("full {HOSTILE}"))].into(),
        not_sent: 1,
        cached_share: 0.25,
        wrong_length: 0,
        mismatches: Some(0),
        sent_bytes: 1000,
        received_bytes: 30_000,
        times: Some(Times { queue_p50_ms: 0.1, infer_p50_ms: 3.0, total_p50_ms: 3.4, overhead_p50_ms: 0.9 }),
        client_cpu: Some(0.05),
    }
}

fn results(steps: Vec<StepFigures>) -> Results {
    Results {
        schema: SCHEMA,
        server: Server { model: HOSTILE.to_owned(), address: "localhost:1".to_owned(), ..Server::default() },
        client: Client { date: "2026-01-31T12:00:00Z".to_owned(), ..Client::default() },
        settings: Settings {
            duration_s: 10.0,
            warm_up_s: 2.0,
            texts_per_request: 1,
            tokens: Some(Lengths { min: 8, max: 128 }),
            distinct: None,
            skip_cache: true,
            deadline_ms: Some(1000.0),
            encoding: "float".to_owned(),
            verify: true,
            seed: 1,
        },
        steps,
        interrupted: true,
    }
}

fn closed() -> Results {
    results(vec![step(Step::Closed { concurrency: 1 }, 100.0), step(Step::Closed { concurrency: 8 }, 400.0)])
}

fn empty() -> StepFigures {
    let open = Step::Open { rate: 12.5, arrivals: Arrivals::Poisson, max_in_flight: 9 };
    StepFigures {
        requests: 0,
        texts: 0,
        latency: None,
        refused: None,
        times: None,
        client_cpu: None,
        mismatches: Some(2),
        ..step(open, 0.0)
    }
}

#[test]
fn json_round_trips() {
    for results in [closed(), results(vec![empty()])] {
        let read: Results = serde_json::from_str(&results.to_json()).expect("JSON");
        assert_eq!(read, results);
    }
    let json: serde_json::Value = serde_json::from_str(&closed().to_json()).expect("JSON");
    assert_eq!(json["steps"][1]["loop"], "closed");
    assert_eq!(json["steps"][1]["concurrency"], 8);
    assert_eq!(json["settings"]["tokens"], serde_json::json!({"least": 8, "most": 128}));
    assert_eq!(json["steps"][1]["latency"]["p99_9_ms"], 9.0);
}

#[test]
fn every_csv_line_has_a_cell_for_each_column() {
    let mut all = closed();
    all.steps.push(empty());
    let csv = all.to_csv();
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{csv}");
    let cell = |line: usize, name: &str| {
        let at = lines[0].iter().position(|found| *found == name).unwrap_or_else(|| panic!("a column {name}"));
        lines[line][at]
    };
    assert_eq!((cell(1, "load"), cell(2, "load"), cell(3, "load")), ("1", "8", "12.5"));
    assert_eq!((cell(2, "texts_per_s"), cell(2, "latency_p99_ms")), ("400.0000", "8.0000"));
    assert_eq!((cell(1, "refused_p50_ms"), cell(3, "latency_p50_ms")), ("0.5000", ""));
    assert_eq!((cell(1, "codes"), cell(1, "client_cpu")), ("OK=10;RESOURCE_EXHAUSTED=3", "0.0500"));
}

#[test]
fn the_page_is_well_formed_and_its_plots_show_the_results() {
    let options = || roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let html = closed().to_html();
    let document = roxmltree::Document::parse_with_options(&html, options()).expect("well-formed");
    let tips: Vec<&str> = document
        .descendants()
        .filter(|node| node.has_tag_name("circle"))
        .filter_map(|node| node.first_element_child()?.text())
        .collect();
    assert_eq!(tips.len(), 2 + 3 * 2);
    assert!(tips.contains(&"texts/s: 8 callers, throughput 400.0 texts/s"), "{tips:?}");
    assert!(tips.contains(&"P99: 1 callers, latency 8.00 ms"), "{tips:?}");
    assert!(!html.contains("<script>"));
    let nothing = results(vec![empty()]).to_html();
    roxmltree::Document::parse_with_options(&nothing, options()).expect("well-formed");
    assert!(!nothing.contains("<svg") && !nothing.contains("NaN"), "{nothing}");
}

#[test]
fn the_table_is_aligned_and_its_footnotes_list_problems() {
    let results = closed();
    let head = header(&results);
    let titles = head.lines().last().expect("titles");
    for step in [&results.steps[0], &empty()] {
        let row = row(step);
        assert_eq!(row.trim_end().chars().count(), titles.chars().count(), "{titles}\n{row}");
    }
    let notes = footnotes(&results);
    assert!(notes.contains("at 8: 3 requests RESOURCE_EXHAUSTED: full"), "{notes}");
    assert!(notes.contains("1 request not sent") && notes.contains("0.50 ms (P50)"), "{notes}");
    assert!(notes.contains("20 embeddings compared") && notes.contains("Interrupted"), "{notes}");
}
