//! File locks between processes.

use std::fs::{File, TryLockError};
use std::io;

/// Locks a file until it is closed. If another process holds the lock, calls `waiting` and then waits.
///
/// Some network file systems do not support locks. Nothing is locked there: concurrent writers are rare, checksums
/// detect the damage they do to each other, and an error would make such a file system unusable.
///
/// # Errors
/// The file cannot be locked.
pub fn lock(file: &File, waiting: impl FnOnce()) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            waiting();
            file.lock()
        }
        Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => Err(error),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn the_second_process_waits_until_the_first_closes_its_file() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        let open = || File::open(path.path()).expect("the file opens");
        let (first, closed) = (open(), AtomicBool::new(false));
        lock(&first, || panic!("no one else holds the lock")).expect("a lock");
        std::thread::scope(|scope| {
            let (waits, waiting) = std::sync::mpsc::channel();
            let closed = &closed;
            let second = scope.spawn(move || {
                let file = open();
                lock(&file, || waits.send(()).expect("the receiver is alive")).expect("a lock");
                closed.load(Ordering::SeqCst)
            });
            waiting.recv().expect("the second one waits");
            closed.store(true, Ordering::SeqCst);
            drop(first);
            assert!(second.join().expect("no panic"), "the lock was granted after the file was closed");
        });
    }
}
