//! `embedd embed`

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::client::{builder, explain, name_flags};
use super::outcome::Outcome;
use crate::cli::{Embed, RequestOptions};
use embedd_client::{CallError, CallErrorKind, Client, EmbedOptions, Embedding, Truncation};

mod lines;
mod writer;

use lines::read_line;
use writer::Writer;

/// The maximum number of lines to read ahead of the server.
const READ_AHEAD: usize = 64;

/// A text with its number, counted from 1.
struct Numbered {
    number: u64,
    text: String,
}

impl AsRef<str> for Numbered {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// Reports and counts the texts that were not embedded.
#[derive(Debug, Clone)]
struct Failures {
    /// `text` or `line`.
    unit: &'static str,
    count: Arc<AtomicU64>,
}

impl Failures {
    fn of(unit: &'static str) -> Self {
        Self { unit, count: Arc::default() }
    }

    fn report(&self, number: u64, reason: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        eprintln!("{} {number}: {reason}", self.unit);
    }

    fn outcome(&self) -> anyhow::Result<Outcome> {
        match self.count.load(Ordering::Relaxed) {
            0 => Ok(Outcome::Done),
            1 => anyhow::bail!("1 {} was not embedded", self.unit),
            count => anyhow::bail!("{count} {}s were not embedded", self.unit),
        }
    }
}

pub(super) fn run(command: &Embed) -> anyhow::Result<Outcome> {
    // The connection has its own thread, which keeps it alive while a slow reader holds up the output.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(embed(command)).map_err(name_flags)
}

async fn embed(command: &Embed) -> anyhow::Result<Outcome> {
    let builder = builder(&command.server, &command.credentials)?;
    let client = builder.connect().await.map_err(|error| explain(error, &command.credentials))?;
    let client = client.with_deadline(command.request.deadline);
    if !command.texts.is_empty() {
        let texts = command.texts.iter().zip(1..).map(|(text, number)| Numbered { number, text: text.clone() });
        let texts: Vec<Numbered> = texts.collect();
        return print(command, &client, stream::iter(texts), &Failures::of("text")).await;
    }
    let max_bytes = client.model().await?.limits.map_or(u64::MAX, |limits| limits.max_text_bytes);
    let failures = Failures::of("line");
    let (sender, lines) = mpsc::channel(READ_AHEAD);
    let (done, mut read) = oneshot::channel();
    std::thread::spawn({
        let failures = failures.clone();
        // Sent before the channel of lines closes.
        move || done.send(read_lines(io::stdin().lock(), max_bytes, &sender, &failures))
    });
    let outcome = print(command, &client, ReceiverStream::new(lines), &failures).await;
    if let Ok(read) = read.try_recv() {
        read.context("standard input")?;
    }
    outcome
}

/// Returns at the end of the input, or when the receiver is dropped.
fn read_lines(
    mut input: impl BufRead,
    max_bytes: u64,
    sender: &mpsc::Sender<Numbered>,
    failures: &Failures,
) -> io::Result<()> {
    let mut number = 0;
    while let Some(line) = read_line(&mut input, max_bytes)? {
        number += 1;
        match line {
            Ok(text) => {
                if sender.blocking_send(Numbered { number, text }).is_err() {
                    break;
                }
            }
            Err(reason) => failures.report(number, &reason),
        }
    }
    Ok(())
}

async fn print(
    command: &Embed,
    client: &Client,
    texts: impl Stream<Item = Numbered> + Send + 'static,
    failures: &Failures,
) -> anyhow::Result<Outcome> {
    let mut writer = Writer::new(io::stdout().lock(), command.output);
    match print_all(command, client, texts, failures, &mut writer).await {
        // The reader has closed the pipe, so it needs no more output.
        Err(error) if is_broken_pipe(&error) => Ok(Outcome::Done),
        ended => ended.and_then(|()| failures.outcome()),
    }
}

async fn print_all(
    command: &Embed,
    client: &Client,
    texts: impl Stream<Item = Numbered> + Send + 'static,
    failures: &Failures,
    writer: &mut Writer<impl io::Write>,
) -> anyhow::Result<()> {
    let mut embeddings = Box::pin(client.embed_stream(texts, options(&command.request)));
    loop {
        // Flush before waiting for the next embedding.
        let next = match embeddings.next().now_or_never() {
            Some(next) => next,
            None => {
                writer.flush()?;
                embeddings.next().await
            }
        };
        let Some((text, result)) = next else { break };
        match result {
            Ok(embedding) => write(command, writer, &text, &embedding)?,
            Err(error) => failures.report(text.number, &reason(error)?),
        }
    }
    Ok(writer.finish()?)
}

fn write(
    command: &Embed,
    writer: &mut Writer<impl io::Write>,
    text: &Numbered,
    embedding: &Embedding,
) -> io::Result<()> {
    writer.write(text.number - 1, command.with_text.then_some(text.as_ref()), embedding)
}

/// Why the text was rejected, or the error itself if the text is not to blame.
fn reason(error: CallError) -> anyhow::Result<String> {
    match error.kind() {
        CallErrorKind::Invalid(violations) if violations.iter().any(|violation| violation.text.is_some()) => {
            Ok(violations.iter().map(|violation| violation.description.as_str()).collect::<Vec<_>>().join("; "))
        }
        _ => Err(error.into()),
    }
}

fn options(request: &RequestOptions) -> EmbedOptions {
    EmbedOptions {
        normalize: !request.no_normalize,
        dimensions: request.dimensions,
        truncation: request.truncation.unwrap_or(Truncation::Unspecified),
        prompt_name: request.prompt.clone(),
        skip_cache: request.skip_cache,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
