//! `embedd embed`

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::Outcome;
use crate::cli::Embed;
use embedd_client::{CallError, CallErrorKind, Client, Embedding, OptionsError};

mod lines;
mod writer;

use lines::read_line;
use writer::Writer;

/// Lines that are read ahead.
const AHEAD: usize = 64;

/// A text with its number, from 1.
struct Numbered {
    number: u64,
    text: String,
}

impl AsRef<str> for Numbered {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// Counts what is not embedded, and tells it.
#[derive(Debug, Clone)]
struct Failures {
    /// `text` or `line`.
    what: &'static str,
    count: Arc<AtomicU64>,
}

impl Failures {
    fn of(what: &'static str) -> Self {
        Self { what, count: Arc::default() }
    }

    fn tell(&self, number: u64, reason: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        eprintln!("{} {number}: {reason}", self.what);
    }

    fn outcome(&self) -> anyhow::Result<Outcome> {
        match self.count.load(Ordering::Relaxed) {
            0 => Ok(Outcome::Done),
            1 => anyhow::bail!("one {} was not embedded", self.what),
            count => anyhow::bail!("{count} {}s were not embedded", self.what),
        }
    }
}

pub(super) fn run(command: &Embed) -> anyhow::Result<Outcome> {
    // The connection has a thread of its own: it is kept while a slow reader holds up the printing.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(embed(command))
}

async fn embed(command: &Embed) -> anyhow::Result<Outcome> {
    let builder = command.client.builder()?;
    let client = builder.connect().await.map_err(OptionsError::from)?.with_deadline(command.deadline);
    if !command.texts.is_empty() {
        let texts = command.texts.iter().zip(1..).map(|(text, number)| Numbered { number, text: text.clone() });
        let texts: Vec<Numbered> = texts.collect();
        return print(command, &client, stream::iter(texts), &Failures::of("text")).await;
    }
    let most = client.model().await?.limits.map_or(u64::MAX, |limits| limits.max_text_bytes);
    let failures = Failures::of("line");
    let (sender, lines) = mpsc::channel(AHEAD);
    let (done, mut read) = oneshot::channel();
    std::thread::spawn({
        let failures = failures.clone();
        // The lines end after it is known why.
        move || done.send(read_lines(io::stdin().lock(), most, &sender, &failures))
    });
    let outcome = print(command, &client, ReceiverStream::new(lines), &failures).await;
    if let Ok(read) = read.try_recv() {
        read.context("standard input")?;
    }
    outcome
}

/// Ends with the lines, or when nobody takes them any more.
fn read_lines(
    mut input: impl BufRead,
    most: u64,
    sender: &mpsc::Sender<Numbered>,
    failures: &Failures,
) -> io::Result<()> {
    let mut number = 0;
    while let Some(line) = read_line(&mut input, most)? {
        number += 1;
        match line {
            Ok(text) => {
                if sender.blocking_send(Numbered { number, text }).is_err() {
                    break;
                }
            }
            Err(reason) => failures.tell(number, &reason),
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
        // A reader that has left wanted no more.
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
    let mut embeddings = Box::pin(client.embed_stream(texts, command.options));
    loop {
        // What is printed is seen before anything is waited for.
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
            Err(error) => failures.tell(text.number, &reason(error)?),
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

/// What is wrong with a text; an error where it is something else that is wrong.
fn reason(error: CallError) -> anyhow::Result<String> {
    match error.kind() {
        CallErrorKind::Invalid(violations) if violations.iter().any(|violation| violation.text.is_some()) => {
            Ok(violations.iter().map(|violation| violation.description.as_str()).collect::<Vec<_>>().join("; "))
        }
        _ => Err(error.into()),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
