//! The check of a model before its weights are downloaded.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The error is the reason to reject the model.
type Inspect = dyn Fn(&Path) -> Result<(), String> + Send + Sync;

/// Inspects a folder with all files of a model except its weights.
#[derive(Clone)]
pub(super) struct Check(Arc<Inspect>);

impl Check {
    pub(super) fn new(inspect: impl Fn(&Path) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(inspect))
    }

    pub(super) fn run(&self, folder: &Path) -> Result<(), String> {
        (self.0)(folder)
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check(..)")
    }
}
