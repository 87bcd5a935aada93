use std::future::Future;
use std::pin::Pin;

use futures_util::FutureExt as _;

use super::*;

/// The connections' minimum is 10 bytes; 1000 bytes are shared.
const LIMITS: ByteLimits = ByteLimits { process: 1332, per_connection: 400 };
const CONNECTIONS: usize = 33;

fn connections<const N: usize>() -> [ConnectionBudget; N] {
    let pool = Pool::new(LIMITS, CONNECTIONS);
    std::array::from_fn(|_| ConnectionBudget::new(&pool))
}

/// A charge that has been asked for.
fn asked(connection: &ConnectionBudget, bytes: usize) -> Pin<Box<dyn Future<Output = Result<Charge, Exhausted>> + '_>> {
    let mut charge = Box::pin(connection.charge(bytes));
    assert!(charge.as_mut().now_or_never().is_none(), "it must wait");
    charge
}

#[test]
fn a_connection_cannot_take_more_than_its_limit() {
    let [first, second] = connections();
    let held = first.try_charge(300).expect("its share");
    assert_eq!(first.try_charge(101).err(), Some(Exhausted));
    let rest = first.try_charge(100).expect("the rest of it");
    drop(second.try_charge(300).expect("another connection has its own"));
    drop((held, rest));
    drop(first.try_charge(400).expect("free again"));
}

#[test]
fn a_message_larger_than_the_budget_is_processed_alone() {
    let [first, second] = connections();
    let held = first.try_charge(5000).expect("nothing else is in memory");
    assert_eq!(held.bytes, 400);
    assert_eq!(first.try_charge(1).err(), Some(Exhausted));
    drop(second.try_charge(1).expect("small"));
}

#[test]
fn no_connection_loses_its_minimum_to_others_however_much_they_hold() {
    let greedy = connections::<32>();
    let mut held = Vec::new();
    for size in [200, 100, 50, 25, 10, 5, 3, 1] {
        for connection in &greedy {
            while let Ok(charge) = connection.try_charge(size) {
                held.push(charge);
            }
        }
    }
    let bytes: usize = held.iter().map(|charge| charge.bytes).sum();
    assert!(bytes > 1300, "they take nearly all: {bytes}");
    let last = ConnectionBudget::new(&greedy[0].pool);
    let own = [4, 6].map(|bytes| last.try_charge(bytes).expect("its minimum"));
    assert_eq!(last.try_charge(5).err(), Some(Exhausted), "nothing is left to share");
    drop(held);
    drop((own, last.try_charge(390).expect("everything is free again")));
}

#[test]
fn connections_that_wait_take_turns() {
    let [first, second, holders @ ..] = connections::<5>();
    let held = |index: usize, bytes| holders[index].try_charge(bytes).expect("its share");
    let long = held(0, 300);
    let _kept = held(1, 300);
    let short = held(2, 200);
    let mut many: Vec<_> = (0..3).map(|_| asked(&first, 150)).collect();
    let mut one = asked(&second, 150);
    drop(long);
    let granted = [many[0].as_mut().now_or_never(), one.as_mut().now_or_never()];
    assert!(granted.iter().all(Option::is_some), "one of each connection: {granted:?}");
    assert!(many[1].as_mut().now_or_never().is_none(), "the rest waits");
    drop(short);
    assert!(many[1].as_mut().now_or_never().is_some());
}

#[test]
fn only_small_messages_overtake_a_waiting_one() {
    let [holder, other, large, small] = connections();
    let held = [holder.try_charge(400), other.try_charge(200)].map(|charge| charge.expect("its share"));
    let mut waiting = asked(&large, 300);
    assert_eq!(small.try_charge(150).err(), Some(Exhausted), "it would fit, but delay the one that waits");
    let overtaking = small.try_charge(50).expect("small");
    drop(held);
    drop(overtaking);
    assert!(waiting.as_mut().now_or_never().is_some(), "the memory is free");
}

#[test]
fn a_message_that_no_longer_waits_gets_nothing() {
    let [first, second] = connections();
    let held = first.try_charge(400).expect("its share");
    drop(asked(&second, 350));
    let mut waiting = asked(&second, 350);
    drop(held);
    assert!(waiting.as_mut().now_or_never().is_some());
    drop(waiting);
    drop(first.try_charge(400).expect("all of it is free again"));
}
