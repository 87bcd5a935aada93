//! The first start, with an empty cache folder, and later starts.

use embedd_model::accuracy::cosine;

use crate::support::models::{FirstStart, Model, first_start};
use crate::support::reference::{self, Nearness};
use crate::support::server::{Server, command, embed};

#[tokio::test]
async fn the_first_start_fills_an_empty_cache_folder_and_the_second_needs_no_network() {
    let first = first_start();
    let mut second = command();
    // No Python, no hub, no network: the cache folder has everything.
    second.env("EMBEDD_HOME", &first.home).env("PATH", "").args(["--model", Model::MiniLm.id(), "--offline"]);
    second.args(["--http-listen", "127.0.0.1:0"]);
    let server = Server::spawn(&mut second);
    server.wait_for_line("ready");
    assert_eq!(FirstStart::request(&server), first.response);
    let set = reference::load(Model::MiniLm);
    let text = reference::find(&set, "short-001");
    let vector = embed(&mut server.client().await, &[&text.text]).await.embeddings.remove(0);
    assert!(cosine(&vector.values, &text.embedding) >= Nearness::INT8.min_cosine);
}
