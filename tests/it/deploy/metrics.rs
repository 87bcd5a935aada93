//! Alerts, the autoscaler and the dashboard use only metrics of `docs/OPERATING.md`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{dashboard, documents, path, resources, text};

/// The server's series: the metrics in the document's table. A histogram has one series for each of its parts.
fn known() -> BTreeSet<String> {
    let document = text("docs/OPERATING.md");
    let (_, table) = document.split_once("| metric | type | labels | meaning |\n").expect("the table of metrics");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let known: BTreeSet<String> = rows
        .flat_map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells[0].trim_matches('`').to_owned();
            match cells[1] {
                "histogram" => ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")).to_vec(),
                _ => vec![name],
            }
        })
        .collect();
    assert!(known.len() > 20, "the table was found");
    known
}

/// The series that an expression uses. Ignores the contents of braces and brackets, the list after `by`, and names of
/// functions, which are followed by a parenthesis.
fn used(expression: &str) -> BTreeSet<String> {
    let mut bare = String::new();
    let mut depth = 0_u32;
    for c in expression.chars() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    let mut words = Vec::new();
    let mut rest = bare.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        rest = &rest[start..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let after = after.trim_start();
        if word == "by" {
            rest = after.split_once(')').expect("labels in parentheses").1;
        } else if !after.starts_with('(') && !["or", "and", "unless"].contains(&word) && !is_function(word) {
            words.push(word.to_owned());
        }
    }
    words.into_iter().collect()
}

/// Aggregations, which may have `by` before their parenthesis.
fn is_function(word: &str) -> bool {
    ["sum", "max", "min", "avg", "count"].contains(&word)
}

fn assert_known(place: &str, expression: &str) {
    let used = used(expression);
    let known = known();
    assert!(!used.is_empty(), "{place}: {expression} uses no metric");
    let unknown: Vec<&String> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "{place}: {unknown:?} are not metrics of docs/OPERATING.md");
}

fn alerts() -> Vec<Value> {
    let rules = &resources("deploy/components/monitoring", "PrometheusRule")[0]["spec"]["groups"][0]["rules"];
    let rules = rules.as_array().expect("rules");
    assert!(rules.len() > 3, "alerts were found");
    rules.clone()
}

#[test]
fn alerts_use_metrics_that_exist_and_link_to_their_runbooks() {
    let headings: Vec<String> = text("docs/OPERATING.md")
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| format!("docs/OPERATING.md#{}", heading.to_lowercase().replace(' ', "-")))
        .collect();
    for alert in alerts() {
        let name = alert["alert"].as_str().expect("a name");
        assert_known(name, alert["expr"].as_str().expect("an expression"));
        let runbook = alert["annotations"]["runbook"].as_str().expect("a runbook");
        assert!(headings.iter().any(|heading| heading == runbook), "{name}: {runbook} does not exist");
    }
}

#[test]
fn the_dashboard_uses_metrics_that_exist() {
    for (panel, expression) in dashboard::expressions() {
        assert_known(&panel, &expression);
    }
}

#[test]
fn the_autoscaler_and_the_adapter_use_the_same_metric_which_exists() {
    let [component] =
        documents(&path("deploy/components/queue-autoscaling/kustomization.yaml")).try_into().expect("one");
    let patch: Value =
        serde_saphyr::from_str(component["patches"][0]["patch"].as_str().expect("a patch")).expect("YAML");
    let metric = patch[0]["value"]["pods"]["metric"]["name"].as_str().expect("a name").to_owned();
    assert_known("autoscaler", &metric);
    let [adapter] = documents(&path("deploy/components/queue-autoscaling/adapter-rule.yaml")).try_into().expect("one");
    let rule = &adapter["rules"]["custom"][0];
    assert_eq!(rule["name"]["as"], *metric);
    assert_known("adapter", rule["seriesQuery"].as_str().expect("a query"));
}

#[test]
fn all_metrics_of_an_expression_are_found() {
    let expression = r#"histogram_quantile(0.95, sum by (le, x) (rate(a_bucket{job="j", y=~"b|c"}[5m]))) / (max (d) or vector(0)) > 0.25"#;
    assert_eq!(used(expression), ["a_bucket", "d"].map(str::to_owned).into());
}
