//! Divides attention into tasks. The division does not affect the result.

use std::ops::Range;

use crate::Offsets;
use crate::multiply::TILE_ROWS;

/// The minimum number of multiplications per task: about 10 microseconds of work, twice the cost of waking a thread.
const MIN_MULTIPLICATIONS: usize = 1 << 19;

/// Tasks per thread if the texts are long enough. With several tasks per thread, no thread waits long for the last one.
const TASKS_PER_THREAD: usize = 4;

/// The minimum number of queries per task, because every task packs the keys and values of its heads again.
const MIN_QUERIES: usize = 8 * TILE_ROWS;

/// A range of queries and heads of one text.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) text: Range<usize>,
    pub(super) heads: Range<usize>,
    /// A part of `text`, in the same token indices.
    pub(super) queries: Range<usize>,
}

impl Task {
    fn multiplications(&self, size: usize) -> usize {
        2 * self.heads.len() * self.queries.len() * self.text.len() * size
    }
}

/// Whether the work is worth more than one thread.
pub(super) fn worth_sharing(tasks: &[Task], size: usize) -> bool {
    tasks.len() > 1 && tasks.iter().map(|task| task.multiplications(size)).sum::<usize>() >= 2 * MIN_MULTIPLICATIONS
}

/// Tasks that cover every query of every head of every text exactly once.
pub(super) fn tasks(offsets: &Offsets, heads: usize, size: usize, threads: usize) -> Vec<Task> {
    let mut tasks = Vec::new();
    let wanted = threads * TASKS_PER_THREAD;
    let texts = offsets.texts().len();
    for text in offsets.texts() {
        let each = 2 * text.len() * text.len() * size;
        let together = if threads == 1 { heads } else { MIN_MULTIPLICATIONS.div_ceil(each).min(heads) };
        let blocks = if threads == 1 { 1 } else { wanted.div_ceil(texts * heads) };
        let queries = text.len().div_ceil(blocks).max(MIN_QUERIES).next_multiple_of(TILE_ROWS);
        for head in (0..heads).step_by(together) {
            for query in text.clone().step_by(queries) {
                tasks.push(Task {
                    text: text.clone(),
                    heads: head..(head + together).min(heads),
                    queries: query..(query + queries).min(text.end),
                });
            }
        }
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_of_every_head_is_in_exactly_one_task() {
        for offsets in [&[0, 1][..], &[0, 384], &[0, 3, 200, 201, 700], &[0, 11, 22, 33, 44]] {
            let total = offsets.last().copied().unwrap_or(0);
            let offsets = Offsets::new(offsets, total as usize).expect("offsets");
            for threads in [1, 2, 3, 64] {
                let mut times = vec![[0; 12]; total as usize];
                for task in tasks(&offsets, 12, 64, threads) {
                    assert!(task.text.start <= task.queries.start && task.queries.end <= task.text.end);
                    for query in task.queries.clone() {
                        task.heads.clone().for_each(|head| times[query][head] += 1);
                    }
                }
                assert!(times.iter().flatten().all(|&times| times == 1), "{offsets:?}, {threads} threads");
            }
        }
    }

    #[test]
    fn a_short_text_runs_on_one_thread_and_a_long_one_on_all() {
        let short = tasks(&Offsets::new(&[0, 11], 11).expect("offsets"), 12, 64, 2);
        assert!(!worth_sharing(&short, 64));
        let long = tasks(&Offsets::new(&[0, 384], 384).expect("offsets"), 12, 64, 8);
        assert!(worth_sharing(&long, 64) && long.len() >= 32);
    }
}
