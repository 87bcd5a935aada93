use super::*;
use crate::http::tests::{apis, open_with};
use crate::net::MaxConnections;
use crate::readiness::Readiness;

/// The value of each attribute of this name in a page.
fn attributes<'a>(page: &'a roxmltree::Document<'_>, name: &str) -> Vec<&'a str> {
    page.descendants().filter_map(|node| node.attribute(name)).collect()
}

fn parse(page: &str) -> roxmltree::Document<'_> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    roxmltree::Document::parse_with_options(page, options).expect("well-formed")
}

fn described() -> String {
    let page = Page { history: History::default(), grpc_port: 50051, grpc_tls: false, tei: true };
    let mut description = crate::http::docs::title();
    for routes in [
        crate::http::openai::routes(),
        crate::http::cohere::routes(),
        crate::http::tei::routes(),
        crate::http::open_inference::routes(),
        routes(page),
    ] {
        description.merge(routes.into_openapi());
    }
    description::render(&description)
}

/// The arguments of a function in a script, where they are strings.
fn arguments<'s>(script: &'s str, before: &str, after: char) -> Vec<&'s str> {
    script.split(before).skip(1).map(|rest| rest.split(after).next().expect("the first part")).collect()
}

#[test]
fn pages_are_well_formed_and_have_unique_ids() {
    for page in [INDEX.to_owned(), described(), ICON.to_owned()] {
        let document = parse(&page);
        let mut ids = attributes(&document, "id");
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
    }
}

#[test]
fn every_element_that_a_script_uses_exists() {
    let document = parse(INDEX);
    let ids = attributes(&document, "id");
    let mut used = 0;
    for (path, script) in SCRIPTS {
        for id in arguments(script, "byId(\"", '"') {
            assert!(ids.contains(&id), "{path} uses #{id}");
            used += 1;
        }
    }
    assert!(used > 20, "found only {used} uses");
    for attribute in ["for", "aria-labelledby", "aria-controls"] {
        for id in attributes(&document, attribute) {
            assert!(ids.contains(&id), "{attribute}={id}");
        }
    }
}

#[test]
fn pages_have_nothing_that_their_policy_forbids() {
    for page in [INDEX.to_owned(), described()] {
        let document = parse(&page);
        for node in document.descendants().filter(roxmltree::Node::is_element) {
            let name = node.tag_name().name();
            let is_inline = name == "style" || name == "script" && node.attribute("src").is_none();
            assert!(!is_inline, "an inline <{name}>");
            for attribute in node.attributes() {
                let forbidden = attribute.name() == "style" || attribute.name().starts_with("on");
                assert!(!forbidden, "{}=... of <{name}>", attribute.name());
            }
        }
    }
    for (path, script) in SCRIPTS {
        for forbidden in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "Function(", "document.write", "localStorage"]
        {
            assert!(!script.contains(forbidden), "{path}: {forbidden}");
        }
    }
}

#[test]
fn nothing_refers_to_another_site() {
    let page = described();
    let style = [embedd_common::page::STYLE, STYLE].concat();
    let mut all = vec![("/", INDEX), ("/docs", &page), ("/page/style.css", &style), ("/page/icon.svg", ICON)];
    all.extend(SCRIPTS);
    for (path, content) in all {
        let content = content.replace("http://www.w3.org/2000/svg", "").replace("http://localhost:9090", "");
        assert!(!content.contains("://") && !content.contains("@import"), "{path}");
        assert!(!content.contains("=\"//") && ![" url(", ":url("].iter().any(|url| content.contains(url)), "{path}");
    }
}

#[test]
fn every_route_is_described_with_an_example_or_as_unsupported() {
    let page = described();
    let document = parse(&page);
    let articles: Vec<_> = document.descendants().filter(|node| node.has_tag_name("article")).collect();
    assert!(articles.len() >= 22, "{} routes", articles.len());
    for article in articles {
        let text: String = article.descendants().filter_map(|node| node.text()).collect();
        let path = article.descendants().find(|node| node.has_tag_name("code")).and_then(|node| node.text());
        let path = path.expect("a path");
        let is_unsupported = description::UNSUPPORTED.contains(&path);
        assert_eq!(text.contains("curl "), !is_unsupported, "{text}");
        assert!(!text.contains("POST") || is_unsupported || text.contains(" -d "), "{text}");
    }
    for part in ["data[].embedding", "inputs.source_sentence", "samples[].latency.total", "Retry", "list of strings"] {
        assert_eq!(page.contains(part), part != "Retry", "{part}");
    }
}

#[tokio::test]
async fn files_are_served_with_their_types_and_a_strict_policy() {
    let max = MaxConnections { count: 8, setting: None };
    let port = open_with(max, |readiness: &Readiness| Some(apis(crate::http::api::tests::api(readiness)))).await;
    let document = parse(INDEX);
    let mut linked = [attributes(&document, "href"), attributes(&document, "src")].concat();
    linked.retain(|link| !link.starts_with('#'));
    let mut paths: Vec<String> = linked.iter().map(|link| format!("/{link}")).collect();
    paths.extend(SCRIPTS.iter().map(|(path, _)| (*path).to_owned()));
    for (_, script) in SCRIPTS {
        paths.extend(arguments(script, "from \"./", '"').iter().map(|name| format!("/page/{name}")));
    }
    assert!(paths.len() > 15, "{paths:?}");
    for path in paths.iter().map(String::as_str).chain(["/"]) {
        let answer = port.send(&format!("GET {path}"), "Connection: close\r\n", "").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        if ["/metrics", "/openapi.json"].contains(&path) {
            continue;
        }
        let kind = match path.rsplit('.').next() {
            Some("js") => SCRIPT,
            Some("css") => CSS,
            Some("svg") => SVG,
            _ => HTML,
        };
        let headers = [
            format!("content-type: {kind}"),
            format!("content-security-policy: {POLICY}"),
            "x-content-type-options: nosniff".to_owned(),
            "cache-control: no-cache".to_owned(),
        ];
        for header in headers {
            assert!(answer.contains(&format!("\r\n{header}\r\n")), "{path}: {header}: {answer}");
        }
        let head = port.send(&format!("HEAD {path}"), "Connection: close\r\n", "").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    }
    for (line, status) in [("POST /", 503), ("POST /docs", 405), ("PUT /", 405), ("POST /page/stats", 405)] {
        let answer = port.send(line, "Connection: close\r\n", "{}").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
    }
}
