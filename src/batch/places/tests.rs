use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use super::*;
use crate::caller::Priority;

fn places(ahead: usize, total: usize) -> Places {
    let not_zero = |number| NonZeroUsize::new(number).expect("not zero");
    Places::new(QueueLimits { ahead: not_zero(ahead), total: not_zero(total) })
}

fn share(connection: u64) -> Share {
    Share { caller: CallerId::Connection(connection), priority: Priority::Interactive }
}

/// Admits a request if it fits.
fn admit(places: &mut Places, connection: u64, texts: usize) -> bool {
    let fits = places.fits(share(connection), texts);
    if fits {
        let request = places.request();
        places.hold(request, share(connection), texts);
    }
    fits
}

/// Admits requests of one text until one is refused, and returns their number.
fn flood(places: &mut Places, connection: u64) -> usize {
    (0..).take_while(|_| admit(places, connection, 1)).count()
}

#[test]
fn one_caller_leaves_a_quarter_and_several_leave_room_for_small_requests_of_others() {
    for texts in [1, 7, 256] {
        for callers in 1..=16 {
            let mut places = places(1 << 20, 4096);
            // All of them send requests in turn until every one is refused.
            while (0..callers).filter(|&caller| admit(&mut places, caller, texts)).count() > 0 {}
            let free = 4096 - places.held();
            let fair = 4096 / (3 * callers as usize + 1);
            assert!(free >= fair.min(texts.max(2)), "{callers} floods of {texts} texts leave {free} places");
            assert!(callers > 1 || free >= 1024, "one flood of {texts} texts leaves {free} places");
            assert!(places.fits(share(100), 1));
        }
    }
}

#[test]
fn a_request_that_is_larger_than_the_threshold_is_admitted_when_the_queue_is_empty() {
    let mut places = places(100, 8);
    assert!(places.fits(share(1), 10));
    let request = places.request();
    places.hold(request, share(1), 1);
    assert!(!places.fits(share(1), 7) && !places.fits(share(2), 4) && places.fits(share(2), 3));
    places.release(request, 1);
    assert!(places.fits(share(2), 8));
}

#[test]
fn a_flood_of_requests_reaches_the_limit_alone() {
    let mut places = places(80, 1 << 20);
    assert_eq!(flood(&mut places, 1), 80);
    assert_eq!(flood(&mut places, 2), 40, "callers take turns: 40 of its own, and 40 of the other one");
    assert!(places.fits(share(3), 1));
    assert!(places.fits(share(1), 0), "a request that needs no place");
}

/// The rule in the words of the module's documentation.
fn slowly_ahead(requests: &BTreeMap<u64, Vec<usize>>, connection: u64) -> usize {
    let own = requests.get(&connection).map_or(0, Vec::len);
    let others = requests.iter().filter(|(other, _)| **other != connection).map(|(_, requests)| requests.len());
    own + others.map(|requests| requests.min(own + 1)).sum::<usize>()
}

#[test]
fn decisions_are_those_of_a_slow_count() {
    const AHEAD: usize = 12;
    const TOTAL: usize = 40;
    let mut random = fastrand::Rng::with_seed(7);
    let mut places = places(AHEAD, TOTAL);
    let mut open: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let mut ids: BTreeMap<u64, Vec<RequestId>> = BTreeMap::new();
    for step in 0..20_000 {
        let connection = random.u64(0..6);
        if random.bool() {
            let texts = random.usize(1..6);
            let held: usize = open.values().flatten().sum();
            let own: usize = open.get(&connection).into_iter().flatten().sum();
            let has_places = held == 0
                || (texts <= (TOTAL - held) / 2 && own + texts <= TOTAL * 3 / 4 && own + texts <= 3 * (TOTAL - held));
            let expected = has_places && slowly_ahead(&open, connection) < AHEAD;
            assert_eq!(places.fits(share(connection), texts), expected, "step {step}: {open:?}");
            if expected {
                let request = places.request();
                places.hold(request, share(connection), texts);
                open.entry(connection).or_default().push(texts);
                ids.entry(connection).or_default().push(request);
            }
        } else if let Some(texts) = open.get_mut(&connection).filter(|texts| !texts.is_empty()) {
            let index = random.usize(0..texts.len());
            let requests = ids.get_mut(&connection).expect("as many");
            let places_back = random.usize(1..=texts[index]);
            places.release(requests[index], places_back);
            texts[index] -= places_back;
            if texts[index] == 0 {
                texts.swap_remove(index);
                requests.swap_remove(index);
            }
        }
    }
}

#[test]
fn nothing_is_remembered_about_requests_that_have_ended() {
    let mut places = places(1000, 1 << 20);
    let requests: Vec<_> = (0..300)
        .map(|number| {
            let request = places.request();
            places.hold(request, share(number % 7), 2);
            request
        })
        .collect();
    for request in requests {
        places.release(request, 1);
        places.release(request, 5);
        places.release(request, 1);
    }
    assert_eq!(places.held(), 0);
    assert!(places.requests.is_empty() && places.by_share.is_empty() && places.by_caller.is_empty());
    assert!(places.shares_with.is_empty());
}
