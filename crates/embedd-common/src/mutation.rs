//! Seeded mutations of valid inputs, for property tests of everything that reads bytes from outside.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fastrand::Rng;

/// Longer insertions only slow the tests down: what grows with the input is tested with inputs of that size.
const MAX_INSERTED_BYTES: usize = 64;
/// Numbers at the edges of what lengths, counts and offsets can be.
const EDGES: [u64; 12] =
    [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 32, 1 << 53, i64::MAX as u64, u64::MAX];
/// Pieces of the formats that embedd reads.
const TOKENS: [&str; 16] =
    ["{", "}", "[", "]", "\"", ",", ":", "null", "-1", "1e999", "\\u0000", "\u{FEFF}", "../", "=", "\n", "\0"];

/// Calls `target` with each valid input, and with `count` mutations of them. The mutations are the same in every run.
///
/// # Panics
/// If `target` does; the input is printed first, as a Rust byte string.
pub fn check(valid: &[&[u8]], count: u32, target: impl Fn(&[u8])) {
    let mut draw = Rng::with_seed(13);
    for input in valid {
        call(&target, input);
    }
    for _ in 0..count {
        call(&target, &mutated(valid, &mut draw));
    }
}

fn call(target: &impl Fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        println!("the input: b\"{}\"", input.escape_ascii());
        resume_unwind(panic);
    }
}

/// One of the valid inputs with one to eight changes.
fn mutated(valid: &[&[u8]], draw: &mut Rng) -> Vec<u8> {
    let mut input = pick(valid, draw).to_vec();
    for _ in 0..draw.u32(1..=8) {
        change(&mut input, pick(valid, draw), draw);
    }
    input
}

fn pick<'v>(valid: &[&'v [u8]], draw: &mut Rng) -> &'v [u8] {
    draw.choice(valid).copied().unwrap_or_default()
}

fn change(input: &mut Vec<u8>, other: &[u8], draw: &mut Rng) {
    let at = draw.usize(..=input.len());
    match draw.u32(0..16) {
        // Rare, because later changes find little left to change.
        0 => input.truncate(at),
        1 => flip_bit(input, draw),
        2 => drop(input.drain(range(at, input.len(), draw))),
        3 => drop(input.splice(at..at, (0..draw.usize(..MAX_INSERTED_BYTES)).map(|_| draw.u8(..)).collect::<Vec<_>>())),
        4 => drop(input.splice(at..at, draw.choice(TOKENS).unwrap_or_default().bytes())),
        5 | 6 => replace_by_edge(input, at, draw),
        // A piece of another input, or of this one again.
        7 => {
            let from = draw.usize(..=other.len());
            let piece = other[range(from, other.len(), draw)].to_vec();
            drop(input.splice(at..at, piece));
        }
        8 => {
            let piece = input[range(at, input.len(), draw)].repeat(draw.usize(1..8));
            drop(input.splice(at..at, piece));
        }
        9..12 => replace_number(input, draw),
        _ => flip_bit(input, draw),
    }
}

fn range(from: usize, end: usize, draw: &mut Rng) -> std::ops::Range<usize> {
    from..draw.usize(from..=end.min(from + MAX_INSERTED_BYTES))
}

fn flip_bit(input: &mut [u8], draw: &mut Rng) {
    if !input.is_empty() {
        let at = draw.usize(..input.len());
        input[at] ^= 1 << draw.u32(..8);
    }
}

/// Overwrites 1, 2, 4 or 8 bytes with a little-endian number.
fn replace_by_edge(input: &mut [u8], at: usize, draw: &mut Rng) {
    let edge = draw.choice(EDGES).unwrap_or_default().to_le_bytes();
    let width = (1 << draw.u32(..4)).min(input.len() - at);
    input[at..at + width].copy_from_slice(&edge[..width]);
}

/// Replaces a decimal number of a text.
fn replace_number(input: &mut Vec<u8>, draw: &mut Rng) {
    let starts: Vec<usize> = (0..input.len())
        .filter(|&at| input[at].is_ascii_digit() && (at == 0 || !input[at - 1].is_ascii_digit()))
        .collect();
    let Some(start) = draw.choice(starts) else { return };
    let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let edge = draw.choice(EDGES).unwrap_or_default().to_string();
    drop(input.splice(start..start + length, edge.into_bytes()));
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn valid_inputs_come_first_and_most_mutations_differ() {
        let seen = RefCell::new(Vec::new());
        check(&[b"{\"a\": 12}", b"another"], 1000, |input| seen.borrow_mut().push(input.to_vec()));
        let seen = seen.into_inner();
        assert_eq!(seen.len(), 1002);
        assert_eq!(seen[..2], [b"{\"a\": 12}".to_vec(), b"another".to_vec()]);
        assert!(seen.iter().collect::<HashSet<_>>().len() > 800);
        assert!(seen.iter().any(|input| input.windows(20).any(|part| part == b"18446744073709551615")));
    }

    #[test]
    #[should_panic(expected = "found")]
    fn a_panic_of_the_target_is_passed_on() {
        check(&[b"valid"], 1000, |input| assert!(!input.contains(&0xFF), "found"));
    }
}
