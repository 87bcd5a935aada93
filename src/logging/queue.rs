//! Log lines on their way to stderr. A thread of its own writes them, so that a request never waits until stderr
//! is read. The queue is bounded: lines that do not fit are dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// About a thousand lines.
const MAX_LINES: usize = 1024;
/// Lines are short, except for those of panics with a backtrace.
const MAX_BYTES: usize = 1 << 20;
/// The time between two looks at whether there is something to report.
const TICK: Duration = Duration::from_secs(1);
/// How long the process waits at its end until all lines are written. Nobody may be reading stderr.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The time between two attempts to add to a full queue.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// The queue; cheap to clone. Each write adds one line.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sender: SyncSender<Message>,
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered when all earlier lines are written.
    Flush(Sender<()>),
}

/// The lines that are waiting to be written.
pub(super) struct Pending {
    receiver: Receiver<Message>,
    queue: Queue,
}

/// An empty queue, and its other end.
pub(super) fn queue() -> (Queue, Pending) {
    let (sender, receiver) = sync_channel(MAX_LINES);
    let queue = Queue(Arc::new(Shared { sender, bytes: AtomicUsize::new(0), dropped: AtomicU64::new(0) }));
    (queue.clone(), Pending { receiver, queue })
}

impl Queue {
    /// Adds a line, or drops it if the queue is full.
    fn add(&self, line: &[u8]) {
        let shared = &*self.0;
        let fits = shared.bytes.fetch_add(line.len(), Ordering::Relaxed) + line.len() <= MAX_BYTES;
        if !fits || shared.sender.try_send(Message::Line(line.to_vec())).is_err() {
            shared.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of lines dropped since the last call, once the queue has room again.
    pub(super) fn take_dropped(&self) -> u64 {
        let shared = &*self.0;
        if shared.bytes.load(Ordering::Relaxed) > MAX_BYTES / 2 {
            return 0;
        }
        shared.dropped.swap(0, Ordering::Relaxed)
    }

    /// Waits until all lines are written, but no longer than a second.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let (written, all_written) = channel();
        let mut message = Message::Flush(written);
        while let Err(TrySendError::Full(returned)) = self.0.sender.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = returned;
            thread::sleep(RETRY_INTERVAL);
        }
        // Fails if nobody reads stderr. Nothing can be done about that.
        let _ = all_written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pending {
    /// Writes the lines from a thread of its own. `tick` is called about once a second, and may log.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn write_to(
        self,
        mut writer: impl Write + Send + 'static,
        mut tick: impl FnMut() + Send + 'static,
    ) -> io::Result<()> {
        let run = move || {
            let mut next_tick = Instant::now() + TICK;
            loop {
                match self.receiver.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                    Ok(Message::Line(line)) => {
                        // A line that cannot be written is lost: reporting that would need the same stderr.
                        let _ = writer.write_all(&line);
                        self.queue.0.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                    }
                    Ok(Message::Flush(written)) => drop(written.send(())),
                    // This end holds a sender as well, so the channel stays open.
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
                if Instant::now() >= next_tick {
                    tick();
                    next_tick = Instant::now() + TICK;
                }
            }
        };
        thread::Builder::new().name("log".to_owned()).spawn(run).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixStream;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn lines_are_written_in_order_before_a_flush_returns() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut queue, pending) = queue();
        pending.write_to(Lines(Arc::clone(&written)), || {}).expect("a thread");
        for number in 0..100 {
            writeln!(queue, "line {number}").expect("queued");
        }
        queue.flush();
        let expected: String = (0..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(String::from_utf8(written.lock().expect("no panic").clone()).expect("text"), expected);
    }

    #[derive(Clone)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_counted_without_blocking() {
        let (reader, writer) = UnixStream::pair().expect("a pair of sockets");
        let (mut queue, pending) = queue();
        pending.write_to(writer, || {}).expect("a thread");
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        // Far more than the socket and the queue hold. Were a write to block, the test would not end.
        for _ in 0..20_000 {
            queue.write_all(&line).expect("queued or dropped");
        }
        assert!(queue.0.bytes.load(Ordering::Relaxed) <= MAX_BYTES);
        queue.flush();

        let lines = BufReader::new(reader).lines().map_while(Result::ok);
        let reader = thread::spawn(move || lines.take_while(|line| line != "end").count() as u64);
        let mut dropped = 0;
        while dropped == 0 {
            thread::sleep(RETRY_INTERVAL);
            dropped = queue.take_dropped();
        }
        writeln!(queue, "end").expect("queued");
        assert_eq!(reader.join().expect("no panic") + dropped, 20_000);
    }
}
