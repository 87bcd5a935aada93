//! By which names a model is known.

use super::ModelInfo;
use crate::request::quoted;

/// Another model was asked for than the one that there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no model {asked}; this server has {known}")]
pub(crate) struct NoSuchModel {
    asked: String,
    known: String,
}

impl ModelInfo {
    /// Whether callers that name a model mean this one: by its whole name, or by the last part of it.
    ///
    /// # Errors
    /// [`NoSuchModel`].
    pub(crate) fn check_name(&self, asked: &str) -> Result<(), NoSuchModel> {
        if !asked.is_empty() && [self.name.as_str(), self.short_name()].contains(&asked) {
            return Ok(());
        }
        Err(NoSuchModel { asked: quoted(asked), known: self.known_as() })
    }

    /// Its names, for a message.
    pub(crate) fn known_as(&self) -> String {
        let (whole, short) = (quoted(&self.name), quoted(self.short_name()));
        if whole == short { whole } else { format!("{whole} or, in short, {short}") }
    }

    fn short_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}
