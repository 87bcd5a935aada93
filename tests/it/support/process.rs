//! Processes that end with the test that started them.

use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// A running process. It is killed when the value is dropped, and when the test process ends in any way: values in statics
/// are never dropped, and a killed process drops nothing.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
    guard: Child,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // Its standard input ends when this process does. Ctrl-C reaches it as well, but it has to outlive this process.
        let script = r#"trap '' INT TERM HUP; read -r _ || kill -s KILL "$0""#;
        let mut guard = Command::new("sh");
        guard.args(["-c", script, &child.id().to_string()]);
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child, guard: guard.expect("sh runs") }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a pipe")
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-s", signal, &id]).status().expect("kill runs");
        assert!(status.success(), "kill -s {signal}");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("process {} does not end", self.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A line makes the guard exit without killing anything: the id may soon belong to another process.
        let _ = self.guard.stdin.take().map(|mut line| std::io::Write::write_all(&mut line, b"\n"));
        let _ = self.guard.wait();
    }
}
