//! Values parsed from files and reloaded when the files change.
//!
//! The contents of the files are polled and compared, instead of their modification times or file system notifications:
//! Kubernetes swaps symbolic links above the files, network mounts send no notifications, and the files are small.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// How often the files are read. A change takes effect once two consecutive reads agree, so that half-written files are
/// not used.
const INTERVAL: Duration = Duration::from_secs(1);

type Digest = [u8; 32];

/// A file with the flag that named it, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFile {
    pub path: PathBuf,
    /// The flag, with its dashes.
    pub flag: &'static str,
}

impl std::fmt::Display for NamedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.flag)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{file} cannot be read: {source}; choose a file that this process can read")]
pub(crate) struct Unreadable {
    file: NamedFile,
    source: io::Error,
}

/// Files, and how to parse them.
pub(crate) trait Source: Send + Sync {
    type Value: Send + Sync;
    type Error: std::error::Error + From<Unreadable> + Send;

    fn files(&self) -> Vec<&NamedFile>;

    /// Parses the contents of [`files`](Self::files), in the same order.
    ///
    /// # Errors
    /// If the contents are invalid.
    fn parse(&self, contents: &[Vec<u8>]) -> Result<Self::Value, Self::Error>;
}

/// The most recent valid value of a source.
#[derive(Debug)]
pub(crate) struct HotReload<S: Source> {
    source: S,
    /// Digest of the contents at the start.
    initial: Digest,
    current: RwLock<Arc<S::Value>>,
}

impl<S: Source> HotReload<S> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// If a file cannot be read, or if the contents are invalid.
    pub(crate) fn open(source: S) -> Result<Self, S::Error> {
        let read = |file: &NamedFile| std::fs::read(&file.path).map_err(|error| unreadable(file, error));
        let contents: Vec<Vec<u8>> = source.files().into_iter().map(read).collect::<Result<_, _>>()?;
        let current = RwLock::new(Arc::new(source.parse(&contents)?));
        Ok(Self { initial: digest(&Ok(contents)), source, current })
    }

    pub(crate) fn current(&self) -> Arc<S::Value> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reloads the files when they change, for as long as the future is polled. Invalid or unreadable files are logged,
    /// and the current value stays in effect.
    pub(crate) async fn follow(&self) -> Infallible {
        let mut last_tried = self.initial;
        let mut last_read = self.initial;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let contents = self.read().await;
            let now = digest(&contents);
            let is_stable = std::mem::replace(&mut last_read, now) == now;
            if is_stable && now != last_tried {
                last_tried = now;
                self.apply(contents);
            }
        }
    }

    async fn read(&self) -> Result<Vec<Vec<u8>>, Unreadable> {
        let mut contents = Vec::new();
        for file in self.source.files() {
            contents.push(tokio::fs::read(&file.path).await.map_err(|error| unreadable(file, error))?);
        }
        Ok(contents)
    }

    fn apply(&self, contents: Result<Vec<Vec<u8>>, Unreadable>) {
        let files: Vec<String> = self.source.files().iter().map(ToString::to_string).collect();
        let files = files.join(", ");
        match contents.map_err(S::Error::from).and_then(|contents| self.source.parse(&contents)) {
            Ok(value) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(files, "reloaded");
            }
            Err(error) => tracing::error!(files, %error, "not reloaded; the previous contents stay in effect"),
        }
    }
}

fn unreadable(file: &NamedFile, source: io::Error) -> Unreadable {
    Unreadable { file: file.clone(), source }
}

/// A digest of all contents with their lengths, or of the error's message.
fn digest(contents: &Result<Vec<Vec<u8>>, Unreadable>) -> Digest {
    let mut hasher = Sha256::new();
    match contents {
        Ok(contents) => contents.iter().for_each(|content| {
            hasher.update((content.len() as u64).to_le_bytes());
            hasher.update(content);
        }),
        Err(error) => hasher.update(error.to_string()),
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests;
