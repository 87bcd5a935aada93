use std::io;

use tokio::time::timeout;

use super::*;
use crate::tests::fake::Fake;

/// Ends tests that hang. Not a performance requirement.
const PATIENCE: Duration = Duration::from_secs(60);

fn servers(text: &str) -> Vec<Servers> {
    let servers = Address::list(text).expect("addresses").into_iter();
    servers.map(|address| Servers { endpoint: Endpoint::from(address.uri.clone()), address }).collect()
}

async fn no_lookups(_: String, _: u16) -> io::Result<Vec<SocketAddr>> {
    Err(io::Error::other("unexpected lookup"))
}

/// The servers picked for `calls` calls.
async fn picked(pool: &Pool, calls: usize) -> BTreeSet<String> {
    let mut servers = BTreeSet::new();
    for _ in 0..calls {
        let connection = timeout(PATIENCE, pool.pick()).await.expect("in time").expect("a connection");
        servers.insert(connection.server().to_owned());
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

/// An address that nothing listens on.
async fn unused_address() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}

#[tokio::test]
async fn a_stopped_server_is_skipped_and_a_new_one_gets_its_share() {
    let here = Fake::fine().await;
    let other = unused_address().await;
    let pool = Pool::start(servers(&format!("{},{other}", here.address)), &no_lookups);
    assert_eq!(picked(&pool, 10).await, [here.address.to_string()].into());
    let _there = Fake::start_at(&other.to_string(), |_, _| Ok(Default::default())).await;
    until(async || picked(&pool, 2).await.len() == 2).await;
    drop(here);
    until(async || picked(&pool, 2).await == [other.to_string()].into()).await;
}

#[tokio::test]
async fn calls_fail_immediately_with_the_reason_if_nothing_listens() {
    let free = unused_address().await;
    let pool = Pool::start(servers(&free.to_string()), &no_lookups);
    for _ in 0..3 {
        let reason = timeout(PATIENCE, pool.pick()).await.expect("in time").expect_err("nothing listens");
        assert!(reason.contains(&free.to_string()) && reason.contains("refused"), "{reason}");
    }
}

#[tokio::test]
async fn an_ended_connection_is_not_picked_again() {
    let server = Fake::fine().await;
    let pool = Pool::start(servers(&server.address.to_string()), &no_lookups);
    let first = pool.pick().await.expect("a connection");
    assert_eq!((first.broke(), first.broke()), (true, false), "one call reports that its connection broke");
    let second = timeout(PATIENCE, pool.pick()).await.expect("in time").expect("another one");
    let same = |a: &PooledConnection, b: &PooledConnection| Arc::ptr_eq(&a.connection.broke, &b.connection.broke);
    assert!(!same(&first, &second));
    first.ended();
    let third = pool.pick().await.expect("a connection");
    assert!(same(&second, &third), "an event of the first connection does not end the second");
    assert!(third.broke());
}

#[tokio::test]
async fn one_call_probes_a_server_after_its_backoff() {
    let failing = Fake::fine().await;
    let healthy = Fake::fine().await;
    let pool = Pool::start(servers(&format!("{},{}", failing.address, healthy.address)), &no_lookups);
    until(async || picked(&pool, 2).await.len() == 2).await;
    // Both connections are open. From now on nothing waits for a socket, so the test can control the clock.
    tokio::time::pause();
    let pick_failing = async || loop {
        let connection = pool.pick().await.expect("a connection");
        if connection.server() == failing.address.to_string() {
            return connection;
        }
    };
    pick_failing().await.unavailable();
    assert_eq!(picked(&pool, 10).await, [healthy.address.to_string()].into());
    tokio::time::advance(BACKOFF).await;
    let probe = pick_failing().await;
    assert_eq!(picked(&pool, 10).await, [healthy.address.to_string()].into(), "other calls wait for the probe");
    probe.answered();
    assert_eq!(picked(&pool, 2).await.len(), 2);
}

#[tokio::test]
async fn every_address_of_a_name_is_a_server_and_the_name_is_resolved_again_after_a_failure() {
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
    until(async || picked(&pool, 2).await == addresses(&[&first, &second])).await;

    *found.lock().expect("no panic") = vec![second.address, third.address];
    drop(first);
    until(async || picked(&pool, 2).await == addresses(&[&second, &third])).await;
    assert_eq!(pool.all().len(), 2, "the first server is removed");
}

#[tokio::test]
async fn a_name_without_addresses_is_an_error_until_it_has_some() {
    let server = Fake::fine().await;
    let found = Arc::new(Mutex::new(Vec::new()));
    let name = Arc::clone(&found);
    let resolve = move |_, _| {
        let found = name.lock().expect("no panic").clone();
        async move { Ok(found) }
    };
    let pool = Pool::start(servers("dns:///a.name:7"), &resolve);
    let reason = timeout(PATIENCE, pool.pick()).await.expect("in time").expect_err("no addresses");
    assert!(reason.contains("a.name:7") && reason.contains("no addresses"), "{reason}");
    found.lock().expect("no panic").push(server.address);
    until(async || pool.pick().await.is_ok()).await;
}
