//! Embeds texts on a server: `cargo run -p embedd-client --example embed -- 127.0.0.1:50051 "a text" "another text"`

use std::error::Error;
use std::time::Duration;

use embedd_client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let servers = arguments.next().ok_or("usage: embed SERVERS TEXT...")?;
    let texts: Vec<String> = arguments.collect();

    let client = Client::builder(servers).deadline(Duration::from_secs(1)).connect().await?;
    for (text, embedding) in texts.iter().zip(client.embed(&texts).await?) {
        println!("{text}: {} values, {} tokens", embedding.values.len(), embedding.token_count);
    }
    Ok(())
}
