//! Values made of files, and made anew when the files change.
//!
//! Contents are compared, not file times, and no notices of the file system are waited for: Kubernetes swaps symbolic links
//! above the files, network mounts send no notices, and the files are small.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// How often the files are read. A change counts once two looks in a row have found the same, so that files that are being
/// written are not taken up half.
const INTERVAL: Duration = Duration::from_secs(1);

type Digest = [u8; 32];

/// A file, and the flag that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFile {
    /// The file.
    pub path: PathBuf,
    /// The flag, with its dashes.
    pub flag: &'static str,
}

impl std::fmt::Display for NamedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.flag)
    }
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{file} cannot be read: {source}; name a file that this process may read")]
pub(crate) struct Unreadable {
    file: NamedFile,
    source: io::Error,
}

/// What is made of files.
pub(crate) trait Recipe: Send + Sync {
    /// What is made.
    type Made: Send + Sync;
    /// Why nothing can be made of the files.
    type Error: std::error::Error + From<Unreadable> + Send;

    /// What is read.
    fn files(&self) -> Vec<&NamedFile>;

    /// `contents` are those of `files`, in that order.
    ///
    /// # Errors
    /// What is wrong with them.
    fn make(&self, contents: &[Vec<u8>]) -> Result<Self::Made, Self::Error>;
}

/// What was made last, shared by all clones.
#[derive(Debug)]
pub(crate) struct Reloaded<R: Recipe> {
    recipe: R,
    /// Of the contents at the start.
    first: Digest,
    current: RwLock<Arc<R::Made>>,
}

impl<R: Recipe> Reloaded<R> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// A file that cannot be read, or what is wrong with the contents.
    pub(crate) fn open(recipe: R) -> Result<Self, R::Error> {
        let read = |file: &NamedFile| std::fs::read(&file.path).map_err(|source| unreadable(file, source));
        let contents: Vec<Vec<u8>> = recipe.files().into_iter().map(read).collect::<Result<_, _>>()?;
        let current = RwLock::new(Arc::new(recipe.make(&contents)?));
        Ok(Self { first: digest(&Ok(contents)), recipe, current })
    }

    /// What was made last.
    pub(crate) fn current(&self) -> Arc<R::Made> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up what the files change to, for as long as it is polled. What is no good is told, and changes nothing.
    pub(crate) async fn follow(&self) -> Infallible {
        let (mut tried, mut seen) = (self.first, self.first);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let contents = self.read().await;
            let now = digest(&contents);
            let settled = std::mem::replace(&mut seen, now) == now;
            if settled && now != tried {
                tried = now;
                self.take_up(contents);
            }
        }
    }

    async fn read(&self) -> Result<Vec<Vec<u8>>, Unreadable> {
        let mut contents = Vec::new();
        for file in self.recipe.files() {
            contents.push(tokio::fs::read(&file.path).await.map_err(|source| unreadable(file, source))?);
        }
        Ok(contents)
    }

    fn take_up(&self, contents: Result<Vec<Vec<u8>>, Unreadable>) {
        let files: Vec<String> = self.recipe.files().iter().map(ToString::to_string).collect();
        let files = files.join(", ");
        match contents.map_err(R::Error::from).and_then(|contents| self.recipe.make(&contents)) {
            Ok(made) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
                tracing::info!(files, "reloaded");
            }
            Err(error) => tracing::error!(files, %error, "not reloaded; what was read before stays in effect"),
        }
    }
}

fn unreadable(file: &NamedFile, source: io::Error) -> Unreadable {
    Unreadable { file: file.clone(), source }
}

/// Of all contents with their lengths, or of the error's text.
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
