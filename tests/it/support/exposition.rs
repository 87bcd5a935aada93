//! Metrics as text (OpenMetrics 1.0), parsed strictly: asserts everything that a scraper may rely on.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) type Labels = BTreeMap<String, String>;

/// The result of one scrape.
#[derive(Debug)]
pub(crate) struct Exposition(Vec<Family>);

#[derive(Debug)]
pub(crate) struct Family {
    name: String,
    pub(crate) kind: String,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
pub(crate) struct Sample {
    name: String,
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

impl Exposition {
    pub(crate) fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the end marker");
        let mut families: Vec<Family> = Vec::new();
        let mut lines = body.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
            assert!(help.len() > 5 && help.ends_with('.'), "{line}");
            assert!(families.iter().all(|family| family.name != name), "{name} appears once");
            let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect(name);
            if let Some(unit) = lines.peek().and_then(|line| line.strip_prefix(&format!("# UNIT {name} "))) {
                assert!(name.ends_with(&format!("_{unit}")), "{name}");
                lines.next();
            }
            let mut samples = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                samples.push(Sample::parse(line));
            }
            let family = Family { name: name.to_owned(), kind: kind.to_owned(), samples };
            family.check();
            families.push(family);
        }
        Self(families)
    }

    /// The families, by the names under which their samples are queried.
    pub(crate) fn families(&self) -> impl Iterator<Item = (String, &Family)> {
        self.0.iter().map(|family| (format!("{}{}", family.name, family.suffixes()[0]), family))
    }

    /// The samples of this name.
    pub(crate) fn samples(&self, name: &str) -> Vec<Sample> {
        self.0.iter().flat_map(|family| &family.samples).filter(|sample| sample.name == name).cloned().collect()
    }

    /// The value of the only sample of this name with all these labels; 0 if there is no such sample.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has =
            |sample: &Sample| labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value));
        let found: Vec<_> = self.samples(name).into_iter().filter(has).collect();
        assert!(found.len() <= 1, "{name} {labels:?}: {found:?}");
        found.first().map_or(0.0, |sample| sample.value)
    }
}

impl Family {
    /// The suffixes that may follow its name in the names of its samples.
    fn suffixes(&self) -> &'static [&'static str] {
        match self.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["", "_bucket", "_sum", "_count"],
            other => panic!("{}: {other} is not a type", self.name),
        }
    }

    /// The labels of its samples, except `le`.
    pub(crate) fn labels(&self) -> BTreeSet<&str> {
        self.samples
            .iter()
            .flat_map(|sample| sample.labels.keys())
            .map(String::as_str)
            .filter(|key| *key != "le")
            .collect()
    }

    fn check(&self) {
        assert!(!self.samples.is_empty(), "{} is empty", self.name);
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            let suffix = sample.name.strip_prefix(&self.name).expect(&self.name);
            assert!(self.suffixes().contains(&suffix), "{} of {}", sample.name, self.name);
            assert!(seen.insert((&sample.name, &sample.labels)), "{sample:?} appears once");
            assert!(sample.value.is_finite() && (self.kind == "gauge" || sample.value >= 0.0), "{sample:?}");
            assert!(self.kind != "info" || sample.value == 1.0, "{sample:?}");
        }
        if self.kind == "histogram" {
            self.check_histogram();
        }
    }

    fn check_histogram(&self) {
        let named = |suffix: &str| {
            let name = format!("{}{suffix}", self.name);
            self.samples.iter().filter(move |sample| sample.name == name)
        };
        for count in named("_count") {
            assert_eq!(named("_sum").filter(|sum| sum.labels == count.labels).count(), 1, "{count:?}");
            let buckets: Vec<(f64, f64)> = named("_bucket")
                .filter_map(|bucket| {
                    let mut labels = bucket.labels.clone();
                    let bound = labels.remove("le").expect("a bound");
                    (labels == count.labels)
                        .then(|| (bound.replace("+Inf", "inf").parse().expect("a number"), bucket.value))
                })
                .collect();
            assert!(buckets.len() > 5 && buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{count:?} {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, count.value)), "{count:?}");
        }
    }
}

impl Sample {
    /// `name{key="value",...} number`
    fn parse(line: &str) -> Self {
        let (head, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = match head.split_once('{') {
            Some((name, rest)) => (name, read_labels(rest.strip_suffix('}').expect(line))),
            None => (head, Labels::new()),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(!name.is_empty() && name.chars().all(is_name), "{line}");
        Self { name: name.to_owned(), labels, value: value.parse().expect(line) }
    }
}

fn read_labels(mut text: &str) -> Labels {
    let mut labels = Labels::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once("=\"").expect(text);
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().expect("an end") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().expect("an escaped character").1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(key.to_owned(), value).is_none(), "{key} appears once");
        text = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
    }
    labels
}
