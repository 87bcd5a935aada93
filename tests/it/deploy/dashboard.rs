//! The dashboard for Grafana.

use std::collections::BTreeSet;

use serde_json::Value;

use super::text;

fn panels() -> Vec<Value> {
    let dashboard: Value =
        serde_json::from_str(&text("deploy/components/monitoring/dashboard.json")).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 20, "panels were found");
    panels.clone()
}

/// Every expression, and the title of its panel.
pub(super) fn expressions() -> Vec<(String, String)> {
    let expressions = panels().into_iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().expect("a query").to_owned()))
    });
    expressions.collect()
}

#[test]
fn the_dashboard_takes_its_data_source_from_a_variable() {
    let dashboard: Value = serde_json::from_str(&text("deploy/components/monitoring/dashboard.json")).expect("JSON");
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 39));
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    assert_eq!((&variables[0]["name"], &variables[0]["type"]), (&"datasource".into(), &"datasource".into()));
    let named = "${datasource}";
    assert!(variables[1..].iter().all(|variable| variable["datasource"]["uid"] == named));
    for panel in panels().iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], named, "{}", panel["title"]);
        let targets = panel["targets"].as_array().expect("targets");
        assert!(targets.iter().all(|target| target["datasource"]["uid"] == named), "{}", panel["title"]);
    }
}

#[test]
fn panels_have_unique_ids_and_do_not_overlap() {
    let mut cells = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels() {
        assert!(ids.insert(panel["id"].as_u64()), "{}: its id is not unique", panel["title"]);
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
        assert!(x + w <= 24, "{} is beyond the edge", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{} overlaps another panel", panel["title"]);
        }
    }
}

#[test]
fn every_query_is_limited_to_the_chosen_namespace_and_pods() {
    for (panel, expression) in expressions() {
        let selectors = expression.matches('{').count();
        let limited = expression.matches(r#"{namespace=~"$namespace", pod=~"$pod""#).count();
        assert!(selectors > 0 && selectors == limited, "{panel}: {expression}");
    }
}
