//! `embedd admin`

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::client::{builder, explain, name_flags};
use super::outcome::Outcome;
use crate::admin_token::{self, AdminToken};
use crate::cli::{Admin, AdminAction, AdminBenchmark, AdminReload, AdminValidate, Credentials};
use embedd_client::{CallError, CallErrorKind, Connection};
use embedd_common::progress::{Progress, Task, Unit};
use embedd_model::reference::ReferenceSet;
use embedd_proto::admin_service_client::AdminServiceClient;
use embedd_proto::benchmark_response::Event;
use embedd_proto::{
    BenchmarkProgress, BenchmarkRequest, BenchmarkResult, ClearCacheRequest, GetStatsRequest, ReferencePair,
    ReloadModelRequest, ValidateRequest, ValidateResponse,
};

mod json;
mod table;

type Client = AdminServiceClient<Connection>;

pub(super) fn run(command: &Admin) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stored = stored_token(&command.server, &command.credentials);
        let mut client = AdminServiceClient::new(connect(command, stored.as_ref()).await?);
        act(command, &mut client).await.map_err(|error| name_source(error, stored.as_ref()))
    })
}

async fn connect(command: &Admin, stored: Option<&AdminToken>) -> anyhow::Result<Connection> {
    let Admin { server, credentials, .. } = command;
    let mut builder = builder(server, credentials)?;
    if let Some(stored) = stored {
        builder = builder.token(stored.token.clone());
    }
    builder.connection().await.map_err(|error| explain(error, credentials))
}

/// The token that a server of this user has stored. It is sent only to this machine, and only if the flags name no other
/// credentials.
fn stored_token(server: &str, credentials: &Credentials) -> Option<AdminToken> {
    let named = credentials.token_file.is_some() || credentials.certificate.is_some();
    if named || !is_on_loopback(server) {
        return None;
    }
    let home = std::env::var_os("EMBEDD_HOME").filter(|home| !home.is_empty() && !home.eq_ignore_ascii_case("auto"));
    admin_token::find(home.map(PathBuf::from))
}

/// Whether only this machine can be reached at the server's address.
fn is_on_loopback(server: &str) -> bool {
    let address = server.split_once("://").map_or(server, |(_, address)| address);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|host: IpAddr| host.to_canonical().is_loopback())
}

/// If a call failed because of its credentials, adds where they came from.
fn name_source(error: anyhow::Error, stored: Option<&AdminToken>) -> anyhow::Error {
    match (error.downcast_ref().map(CallError::kind), stored) {
        (Some(CallErrorKind::Denied), Some(AdminToken { path, .. })) => anyhow::anyhow!(
            "{error} (the token in {} was sent; if the server uses another one, name its file with --token-file)",
            path.display()
        ),
        _ => name_flags(error),
    }
}

async fn act(command: &Admin, client: &mut Client) -> anyhow::Result<Outcome> {
    let json = command.json;
    match &command.action {
        AdminAction::Validate(AdminValidate { reference, min_cosine, all }) => {
            let found = validate(client, reference.as_deref(), *min_cosine).await?;
            print(json, || json::validation(&found), || table::validation(&found, *all));
            return Ok(Outcome::of_gate(found.passed));
        }
        AdminAction::Benchmark(AdminBenchmark { lengths, batches, concurrencies, requests }) => {
            let request = BenchmarkRequest {
                token_counts: lengths.clone(),
                batch_sizes: batches.clone(),
                concurrencies: concurrencies.clone(),
                requests: *requests,
            };
            let result = benchmark(client, request).await?;
            print(json, || json::benchmark(&result), || table::benchmark(&result));
        }
        AdminAction::Stats => {
            let stats = client.get_stats(GetStatsRequest {}).await.map_err(CallError::of("GetStats"))?.into_inner();
            print(json, || json::stats(&stats), || table::stats(&stats));
        }
        AdminAction::Reload(AdminReload { bundle }) => {
            let bundle = bundle.as_ref().map(|bundle| bundle.display().to_string()).unwrap_or_default();
            let request = ReloadModelRequest { bundle };
            let reloaded = client.reload_model(request).await.map_err(CallError::of("ReloadModel"))?.into_inner();
            print(json, || json::reload(&reloaded), || table::reload(&reloaded));
        }
        AdminAction::ClearCache => {
            let cleared =
                client.clear_cache(ClearCacheRequest {}).await.map_err(CallError::of("ClearCache"))?.into_inner();
            print(json, || json::cleared(cleared), || format!("{} entries dropped\n", cleared.entries));
        }
    }
    Ok(Outcome::Done)
}

fn print(as_json: bool, json: impl FnOnce() -> Value, table: impl FnOnce() -> String) {
    if as_json {
        println!("{:#}", json());
    } else {
        print!("{}", table());
    }
}

async fn validate(
    client: &mut Client,
    reference: Option<&Path>,
    min_cosine: Option<f64>,
) -> anyhow::Result<ValidateResponse> {
    let set = reference.map(ReferenceSet::read).transpose()?;
    let ids: Vec<String> = set.iter().flat_map(|set| set.texts.iter().map(|text| text.id.clone())).collect();
    let request = ValidateRequest { pairs: set.map(pairs).unwrap_or_default(), min_cosine };
    let mut found = client.validate(request).await.map_err(CallError::of("Validate"))?.into_inner();
    // The server does not know the ids of our texts.
    for text in &mut found.texts {
        if let Some(id) = ids.get(text.index as usize) {
            text.id.clone_from(id);
        }
    }
    Ok(found)
}

fn pairs(set: ReferenceSet) -> Vec<ReferencePair> {
    set.texts.into_iter().map(|text| ReferencePair { text: text.text, embedding: text.embedding }).collect()
}

/// If a signal ends this process, the server stops measuring.
async fn benchmark(client: &mut Client, request: BenchmarkRequest) -> anyhow::Result<BenchmarkResult> {
    let mut events = client.benchmark(request).await.map_err(CallError::of("Benchmark"))?.into_inner();
    let mut reporter = ProgressReporter::default();
    while let Some(event) = events.message().await.map_err(CallError::of("Benchmark"))? {
        match event.event {
            Some(Event::Progress(progress)) => reporter.report(&progress),
            Some(Event::Result(result)) => {
                reporter.finish();
                return Ok(result);
            }
            None => {}
        }
    }
    anyhow::bail!("the server ended the benchmark without a result; see its log")
}

/// Reports progress on standard error.
#[derive(Default)]
struct ProgressReporter {
    task: Option<Task>,
    done: u32,
}

impl ProgressReporter {
    fn report(&mut self, progress: &BenchmarkProgress) {
        let total = Some(u64::from(progress.total));
        let task = self.task.get_or_insert_with(|| Progress::auto().task("benchmark", total, Unit::Steps));
        task.advance(u64::from(progress.done.saturating_sub(self.done)));
        self.done = progress.done;
    }

    fn finish(self) {
        if let Some(task) = self.task {
            task.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_token_is_sent_to_this_machine_only() {
        for server in ["http://127.0.0.1:50052", "127.9.9.9:1", "https://localhost:50052", "http://[::1]:50052"] {
            assert!(is_on_loopback(server), "{server}");
        }
        for server in ["http://10.0.0.1:50052", "127.0.0.1.example.com:1", "http://localhost.example.com:1", "[::]:1"] {
            assert!(!is_on_loopback(server), "{server}");
        }
    }
}
