//! Embeds the lines of standard input, with several requests in flight and the results in order:
//! `cargo run -p embedd-client --example stream -- 127.0.0.1:50051 < texts.txt`

use std::error::Error;
use std::io;

use embedd_client::{Client, EmbedOptions};
use futures_util::{StreamExt as _, stream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let servers = std::env::args().nth(1).ok_or("usage: stream SERVERS < TEXTS")?;
    let client = Client::connect(&servers).await?;
    let lines = stream::iter(std::iter::from_fn(next_line));

    let mut embeddings = client.embed_stream(lines, EmbedOptions::default()).boxed();
    while let Some((text, embedding)) = embeddings.next().await {
        match embedding {
            Ok(embedding) => println!("{text}: {} values", embedding.values.len()),
            Err(error) => eprintln!("{text}: {error}"),
        }
    }
    Ok(())
}

/// `None` at the end of the input.
fn next_line() -> Option<String> {
    let mut line = String::new();
    let bytes = io::stdin().read_line(&mut line).ok()?;
    (bytes > 0).then(|| line.trim_end().to_owned())
}
