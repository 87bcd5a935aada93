//! The names of a model in requests.

use crate::request::quoted;

/// The names by which requests may call a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelNames {
    /// The name that replies and metrics have.
    main: String,
    aliases: Vec<String>,
}

/// A request named a model other than the one being served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model {requested} not found; this server has {served}")]
pub(crate) struct NoSuchModel {
    requested: String,
    served: String,
}

impl ModelNames {
    /// These names and no others.
    pub(crate) fn new(main: String, aliases: Vec<String>) -> Self {
        Self { main, aliases }
    }

    /// The name of a model and, as its alias, the last part of it.
    pub(crate) fn of(model: &str) -> Self {
        let alias = model.rsplit_once('/').map(|(_, name)| name.to_owned()).filter(|name| !name.is_empty());
        Self::new(model.to_owned(), alias.into_iter().collect())
    }

    pub(crate) fn main(&self) -> &str {
        &self.main
    }

    pub(crate) fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// Checks that `name` is one of these names.
    ///
    /// # Errors
    /// [`NoSuchModel`].
    pub(crate) fn check(&self, name: &str) -> Result<(), NoSuchModel> {
        if !name.is_empty() && std::iter::once(&self.main).chain(&self.aliases).any(|known| known == name) {
            return Ok(());
        }
        Err(NoSuchModel { requested: quoted(name), served: self.known_as() })
    }

    /// All names, for a message.
    pub(crate) fn known_as(&self) -> String {
        let main = quoted(&self.main);
        let aliases: Vec<String> = self.aliases.iter().map(|alias| quoted(alias)).collect();
        if aliases.is_empty() { main } else { format!("{main} (or {})", aliases.join(", ")) }
    }
}
