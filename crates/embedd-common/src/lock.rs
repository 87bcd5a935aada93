//! Locks that keep two processes from one place.

use std::fs::{File, TryLockError};
use std::io;

/// Locks a file until it is closed. Where another process holds it, `waiting` is called before the wait.
///
/// Some network file systems know no locks. There nothing is locked: that two processes work at one place is rare, what
/// they spoil for each other shows in checksums, and an error would shut out everybody.
///
/// # Errors
/// What locking failed with.
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
    fn the_second_waits_until_the_first_has_closed_its_file() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        let open = || File::open(path.path()).expect("it opens");
        let (first, closed) = (open(), AtomicBool::new(false));
        lock(&first, || panic!("nobody else has it")).expect("a lock");
        std::thread::scope(|scope| {
            let (waits, waiting) = std::sync::mpsc::channel();
            let closed = &closed;
            let second = scope.spawn(move || {
                let file = open();
                lock(&file, || waits.send(()).expect("somebody listens")).expect("a lock");
                closed.load(Ordering::SeqCst)
            });
            waiting.recv().expect("it waits");
            closed.store(true, Ordering::SeqCst);
            drop(first);
            assert!(second.join().expect("no panic"), "the lock came after the file was closed");
        });
    }
}
