//! One command, and an empty cache folder.

use crate::support::models::Model;
use crate::support::server::{Server, command, embed, temporary_folder};

#[tokio::test]
async fn the_first_start_fills_an_empty_cache_folder_and_the_second_needs_no_network() {
    let (_folder, home) = temporary_folder();
    let mut first = command();
    first.env("EMBEDD_HOME", &home).args(["--model", Model::MiniLm.id()]);
    let server = Server::spawn(&mut first);
    server.wait_for_line("ready");
    let vector = embed(&mut server.client().await, &["Hello world"]).await.embeddings.remove(0);
    drop(server);

    let mut second = command();
    // No Python, no hub, no network: the cache folder has everything.
    second.env("EMBEDD_HOME", &home).env("PATH", "").args(["--model", Model::MiniLm.id(), "--offline"]);
    let server = Server::spawn(&mut second);
    server.wait_for_line("ready");
    let again = embed(&mut server.client().await, &["Hello world"]).await.embeddings.remove(0);
    assert_eq!(again.values, vector.values);
}
