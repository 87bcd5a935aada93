use super::*;
use crate::caller::CallerId;

const LARGEST: usize = 512;

fn share(connection: u64, priority: Priority) -> Share {
    Share { caller: CallerId::Connection(connection), priority }
}

fn interactive(connection: u64) -> Share {
    share(connection, Priority::Interactive)
}

impl<T> Schedule<T> {
    fn push_request(&mut self, share: Share, texts: impl IntoIterator<Item = (T, usize)>) -> Vec<Position> {
        let mut flow = Flow::default();
        texts.into_iter().map(|(text, tokens)| self.push(share, &mut flow, tokens, text)).collect()
    }
}

/// Serves one text per step. Before each, the `arrivals` of that step are queued, each a request of its own.
fn served(first: &[(&'static str, usize)], arrivals: &[(usize, &'static str, usize)]) -> Vec<&'static str> {
    let mut schedule = Schedule::new();
    schedule.push_request(interactive(1), first.iter().copied());
    let mut order = Vec::new();
    for step in 0.. {
        for &(_, name, tokens) in arrivals.iter().filter(|arrival| arrival.0 == step) {
            schedule.push_request(interactive(1), [(name, tokens)]);
        }
        match schedule.pop() {
            Some(name) => order.push(name),
            None => break,
        }
    }
    order
}

#[test]
fn requests_of_one_text_are_served_in_order_of_arrival() {
    assert_eq!(served(&[("a", 9)], &[(0, "b", 2), (0, "c", 5), (1, "d", 1)]), ["a", "b", "c", "d"]);
}

#[test]
fn a_short_request_does_not_wait_for_all_of_a_large_one() {
    let large = [("1", 10), ("2", 10), ("3", 10), ("4", 10), ("5", 10)];
    assert_eq!(served(&large, &[(0, "small", 10)]), ["1", "small", "2", "3", "4", "5"]);
    assert_eq!(served(&large, &[(2, "small", 10)]), ["1", "2", "3", "small", "4", "5"]);
}

#[test]
fn a_large_request_makes_progress_while_small_ones_keep_arriving() {
    let large = [("L1", 10), ("L2", 10), ("L3", 10)];
    let small: Vec<_> = (0..20).map(|step| (step, "s", 10)).collect();
    let order = served(&large, &small);
    let last = order.iter().rposition(|name| name.starts_with('L')).expect("the large request is served");
    assert!(last <= 8, "the start tag of its third text is 20 tokens: {order:?}");
}

#[test]
fn removed_texts_are_not_served() {
    let mut schedule = Schedule::new();
    let positions = schedule.push_request(interactive(1), (0..6).map(|text| (text, 1)));
    for position in positions.iter().step_by(2) {
        assert!(schedule.remove(*position).is_some() && schedule.remove(*position).is_none());
    }
    assert_eq!(std::iter::from_fn(|| schedule.pop()).collect::<Vec<_>>(), [1, 3, 5]);
    assert!(schedule.is_empty() && schedule.tokens() == 0);
    assert!(positions.into_iter().all(|position| schedule.remove(position).is_none()));
}

#[test]
fn many_large_requests_of_one_caller_do_not_delay_a_single_text_of_another() {
    let mut schedule = Schedule::new();
    for _ in 0..16 {
        schedule.push_request(interactive(1), (0..256).map(|_| ("large", LARGEST)));
    }
    for _ in 0..100 {
        schedule.pop();
    }
    schedule.push_request(interactive(2), [("single", LARGEST)]);
    let order: Vec<_> = (0..3).filter_map(|_| schedule.pop()).collect();
    assert!(order.contains(&"single"), "{order:?}");
}

#[test]
fn a_caller_that_was_idle_gains_nothing_from_it() {
    let mut schedule = Schedule::new();
    schedule.push_request(interactive(1), (0..100).map(|_| (1, 10)));
    for _ in 0..50 {
        schedule.pop();
    }
    schedule.push_request(interactive(2), (0..50).map(|_| (2, 10)));
    let order: Vec<_> = (0..20).filter_map(|_| schedule.pop()).collect();
    let of_the_second = order.iter().filter(|&&caller| caller == 2).count();
    assert!((9..=11).contains(&of_the_second), "both are served alternately: {order:?}");
}

#[test]
fn bulk_texts_get_a_ninth_of_the_tokens_and_wait_for_no_more() {
    let mut schedule = Schedule::new();
    schedule.push_request(share(1, Priority::Bulk), (0..400).map(|_| ("bulk", 10)));
    schedule.push_request(share(2, Priority::Interactive), (0..400).map(|_| ("interactive", 10)));
    let order: Vec<_> = (0..360).filter_map(|_| schedule.pop()).collect();
    let bulk = order.iter().filter(|name| **name == "bulk").count();
    assert!((39..=41).contains(&bulk), "{bulk} of 360");
    let longest_wait = order.split(|name| *name == "bulk").map(<[&str]>::len).max();
    assert!(longest_wait <= Some(9), "{longest_wait:?}");
}

/// Callers with queued texts all the time: the tokens that any two of them have been served, by weight, never differ by
/// more than two of the largest texts.
#[test]
fn busy_callers_are_served_equally_up_to_two_texts() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let shares: Vec<Share> = (0..random.u64(2..8))
            .map(|caller| share(caller, if random.bool() { Priority::Interactive } else { Priority::Bulk }))
            .collect();
        let mut schedule = Schedule::new();
        let mut served = vec![0u64; shares.len()];
        let mut queued = vec![0; shares.len()];
        for _ in 0..3000 {
            for (caller, share) in shares.iter().enumerate() {
                while queued[caller] < 3 {
                    // Some send requests of one short text, others of many long ones.
                    let texts = if caller % 2 == 0 { 1 } else { random.usize(1..40) };
                    let tokens = if caller % 3 == 0 { 2 } else { LARGEST };
                    schedule.push_request(*share, (0..texts).map(|_| ((caller, tokens), tokens)));
                    queued[caller] += texts;
                }
            }
            let (caller, tokens) = schedule.pop().expect("all callers have texts");
            queued[caller] -= 1;
            served[caller] += shares[caller].cost(tokens);
            let spread = served.iter().max().expect("callers") - served.iter().min().expect("callers");
            let bound = 2 * shares.iter().map(|share| share.cost(LARGEST)).max().expect("callers");
            assert!(spread <= bound, "seed {seed}: {served:?}");
        }
    }
}

/// Start-time fair queueing by its definition: it remembers the finish tag of every share forever, and looks through
/// all texts each time.
#[derive(Default)]
struct Oracle {
    texts: Vec<OracleText>,
    /// The start tag of the next text if there is one, otherwise the finish tag; and the tie-break.
    tags: HashMap<Share, (u64, u64)>,
    inner: HashMap<Share, u64>,
    virtual_time: u64,
    ties: u64,
}

#[derive(Clone, Copy)]
struct OracleText {
    share: Share,
    tag: (u64, u64),
    tokens: usize,
    number: usize,
}

impl Oracle {
    fn push_request(&mut self, share: Share, texts: &[(usize, usize)]) {
        let inner = *self.inner.entry(share).or_insert(0);
        let mut next = inner;
        for &(number, tokens) in texts {
            self.ties += 1;
            if !self.texts.iter().any(|text| text.share == share) {
                let finish = self.tags.get(&share).map_or(0, |tag| tag.0);
                self.tags.insert(share, (finish.max(self.virtual_time), self.ties));
            }
            self.texts.push(OracleText { share, tag: (next, self.ties), tokens, number });
            next += tokens as u64;
        }
    }

    fn pop(&mut self) -> Option<usize> {
        let share = self.texts.iter().map(|text| text.share).min_by_key(|share| self.tags[share])?;
        let candidates = self.texts.iter().enumerate().filter(|(_, text)| text.share == share);
        let (index, _) = candidates.min_by_key(|(_, text)| text.tag)?;
        let text = self.texts.remove(index);
        self.virtual_time = self.tags[&share].0;
        self.ties += 1;
        self.tags.insert(share, (self.virtual_time + share.cost(text.tokens), self.ties));
        *self.inner.entry(share).or_insert(0) += text.tokens as u64;
        self.end_busy_period();
        Some(text.number)
    }

    fn remove(&mut self, number: usize) {
        self.texts.retain(|text| text.number != number);
        self.end_busy_period();
    }

    fn end_busy_period(&mut self) {
        if self.texts.is_empty() {
            let last = self.tags.values().map(|tag| tag.0).max();
            self.virtual_time = self.virtual_time.max(last.unwrap_or(0));
        }
    }
}

#[test]
fn the_order_is_that_of_the_definition() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut schedule = Schedule::new();
        let mut oracle = Oracle::default();
        let mut queued: Vec<(usize, Position)> = Vec::new();
        let mut numbers = 0;
        for step in 0..300 {
            match random.u32(0..10) {
                0..3 => {
                    let priority = if random.u32(0..3) == 0 { Priority::Bulk } else { Priority::Interactive };
                    let share = share(random.u64(0..5), priority);
                    let texts: Vec<(usize, usize)> =
                        (0..random.usize(1..5)).map(|text| (numbers + text, random.usize(1..60))).collect();
                    numbers += texts.len();
                    let positions = schedule.push_request(share, texts.iter().copied());
                    queued.extend(texts.iter().map(|(number, _)| *number).zip(positions));
                    oracle.push_request(share, &texts);
                }
                3 if !queued.is_empty() => {
                    let (number, position) = queued.swap_remove(random.usize(0..queued.len()));
                    assert_eq!(schedule.remove(position), Some(number));
                    oracle.remove(number);
                }
                _ => {
                    let found = schedule.pop();
                    assert_eq!(found, oracle.pop(), "seed {seed}, step {step}");
                    queued.retain(|(number, _)| Some(*number) != found);
                }
            }
            assert_eq!(schedule.len(), queued.len());
            assert_eq!(schedule.tokens(), oracle.texts.iter().map(|text| text.tokens).sum::<usize>());
        }
    }
}

#[test]
fn shares_are_forgotten_when_they_no_longer_matter() {
    let mut schedule = Schedule::new();
    for caller in 0..3 * MAX_REMEMBERED as u64 {
        schedule.push_request(interactive(caller), [((), 10)]);
    }
    while schedule.pop().is_some() {
        assert!(schedule.idle.len() <= MAX_REMEMBERED);
    }
    assert_eq!((schedule.shares.len(), schedule.ready.len(), schedule.idle.len()), (0, 0, 0));
}
