//! The names of a model in requests.

use super::ModelInfo;
use crate::request::quoted;

/// A request named a model other than the one being served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model {requested} not found; this server has {served}")]
pub(crate) struct NoSuchModel {
    requested: String,
    served: String,
}

impl ModelInfo {
    /// Checks that `name` is this model's full name or its last part.
    ///
    /// # Errors
    /// [`NoSuchModel`].
    pub(crate) fn check_name(&self, name: &str) -> Result<(), NoSuchModel> {
        if !name.is_empty() && [self.name.as_str(), self.short_name()].contains(&name) {
            return Ok(());
        }
        Err(NoSuchModel { requested: quoted(name), served: self.known_as() })
    }

    /// Its names, for a message.
    pub(crate) fn known_as(&self) -> String {
        let full = quoted(&self.name);
        let short = quoted(self.short_name());
        if full == short { full } else { format!("{full} (or {short} for short)") }
    }

    fn short_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}
