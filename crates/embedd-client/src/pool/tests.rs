use std::io;

use tokio::time::timeout;

use super::*;
use crate::tests::fake::Fake;

/// Bounds a test that hangs; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

fn servers(text: &str) -> Vec<Servers> {
    let servers = Address::list(text).expect("addresses").into_iter();
    servers.map(|address| Servers { endpoint: Endpoint::from(address.uri.clone()), address }).collect()
}

async fn nobody(_: String, _: u16) -> io::Result<Vec<SocketAddr>> {
    Err(io::Error::other("nobody is asked"))
}

/// The addresses that so many calls go to.
async fn taken(pool: &Pool, calls: usize) -> BTreeSet<String> {
    let mut servers = BTreeSet::new();
    for _ in 0..calls {
        let taken = timeout(PATIENCE, pool.take()).await.expect("in time").expect("a connection");
        servers.insert(taken.server().to_owned());
    }
    servers
}

async fn until(what: impl AsyncFn() -> bool) {
    let wait = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("in time");
}

/// A port on which nothing listens.
async fn free() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}

#[tokio::test]
async fn a_server_that_is_gone_is_passed_over_and_one_that_comes_gets_its_share() {
    let (here, other) = (Fake::fine().await, free().await);
    let pool = Pool::start(servers(&format!("{},{other}", here.address)), &nobody);
    assert_eq!(taken(&pool, 10).await, [here.address.to_string()].into());
    let _there = Fake::start_at(&other.to_string(), |_, _| Ok(Default::default())).await;
    until(async || taken(&pool, 2).await.len() == 2).await;
    drop(here);
    until(async || taken(&pool, 2).await == [other.to_string()].into()).await;
}

#[tokio::test]
async fn where_nothing_listens_a_call_is_told_at_once_and_why() {
    let free = free().await;
    let pool = Pool::start(servers(&free.to_string()), &nobody);
    for _ in 0..3 {
        let reason = timeout(PATIENCE, pool.take()).await.expect("in time").expect_err("nothing listens");
        assert!(reason.contains(&free.to_string()) && reason.contains("refused"), "{reason}");
    }
}

#[tokio::test]
async fn a_connection_that_has_ended_is_not_taken_again() {
    let server = Fake::fine().await;
    let pool = Pool::start(servers(&server.address.to_string()), &nobody);
    let first = pool.take().await.expect("a connection");
    first.ended();
    let second = timeout(PATIENCE, pool.take()).await.expect("in time").expect("another one");
    assert_eq!((first.number, second.number), (1, 2));
    first.ended();
    assert_eq!(pool.take().await.expect("the same").number, 2, "what the first says is of the first");
}

#[tokio::test]
async fn one_call_goes_ahead_when_a_server_has_rested() {
    let (tired, awake) = (Fake::fine().await, Fake::fine().await);
    let pool = Pool::start(servers(&format!("{},{}", tired.address, awake.address)), &nobody);
    until(async || taken(&pool, 2).await.len() == 2).await;
    // Both connections are there: from now on nothing waits for a socket, and time is the test's.
    tokio::time::pause();
    let of_tired = async || loop {
        let taken = pool.take().await.expect("a connection");
        if taken.server() == tired.address.to_string() {
            return taken;
        }
    };
    of_tired().await.refused();
    assert_eq!(taken(&pool, 10).await, [awake.address.to_string()].into());
    tokio::time::advance(REST).await;
    let probe = of_tired().await;
    assert_eq!(taken(&pool, 10).await, [awake.address.to_string()].into(), "the others wait for what it says");
    probe.answered();
    assert_eq!(taken(&pool, 2).await.len(), 2);
}

#[tokio::test]
async fn every_address_of_a_name_is_a_server_and_the_name_is_asked_again_after_trouble() {
    let (first, second, third) = (Fake::fine().await, Fake::fine().await, Fake::fine().await);
    let found = Arc::new(Mutex::new(vec![first.address, second.address]));
    let name = Arc::clone(&found);
    let resolve = move |host: String, port: u16| {
        assert_eq!((host.as_str(), port), ("a.name", 7));
        let found = name.lock().expect("no panic").clone();
        async move { Ok(found) }
    };
    let pool = Pool::start(servers("dns:///a.name:7"), &resolve);
    let addresses = |servers: &[&Fake]| servers.iter().map(|server| server.address.to_string()).collect();
    until(async || taken(&pool, 2).await == addresses(&[&first, &second])).await;

    *found.lock().expect("no panic") = vec![second.address, third.address];
    drop(first);
    until(async || taken(&pool, 2).await == addresses(&[&second, &third])).await;
    assert_eq!(pool.all().len(), 2, "the first is forgotten");
}

#[tokio::test]
async fn a_name_that_has_no_addresses_is_told_until_it_has_some() {
    let server = Fake::fine().await;
    let found = Arc::new(Mutex::new(Vec::new()));
    let name = Arc::clone(&found);
    let resolve = move |_, _| {
        let found = name.lock().expect("no panic").clone();
        async move { Ok(found) }
    };
    let pool = Pool::start(servers("dns:///a.name:7"), &resolve);
    let reason = timeout(PATIENCE, pool.take()).await.expect("in time").expect_err("no addresses");
    assert!(reason.contains("a.name:7") && reason.contains("no addresses"), "{reason}");
    found.lock().expect("no panic").push(server.address);
    until(async || pool.take().await.is_ok()).await;
}
