//! `embedd admin`

use std::path::Path;

use serde_json::Value;

use super::client::{connect, name_flags};
use super::outcome::Outcome;
use crate::cli::{Admin, AdminAction, AdminBenchmark, AdminReload, AdminValidate};
use embedd_client::{CallError, Connection};
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
        let mut client = AdminServiceClient::new(connect(&command.server, &command.credentials).await?);
        act(command, &mut client).await.map_err(name_flags)
    })
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
