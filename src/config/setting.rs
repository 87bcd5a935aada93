//! What is known of a setting without its value: its names, default and meaning.

use super::suggest;

/// One row of the table of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The key in the TOML file (`max_tokens`); the flag and the variable are derived from it.
    pub key: &'static str,
    /// The heading under which help and documentation show it.
    pub group: Group,
    /// What a value looks like, for help: `N`, `ADDRESS`.
    pub placeholder: &'static str,
    /// The TOML type that is natural for it.
    pub kind: Kind,
    /// The text that is parsed where no source gives one.
    pub default: &'static str,
    /// Variables of other programs that are read, too, after this setting's own.
    pub also: &'static [&'static str],
    pub(super) doc: &'static str,
}

/// The TOML types that a setting takes. Text in quotes is always taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text only.
    Text,
    /// Whole numbers, too.
    Number,
    /// `true` and `false`, too.
    Switch,
}

/// Settings that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What is served and where files are.
    Model,
    /// Listeners.
    Network,
    /// Encryption and tokens.
    Access,
    /// How many there may be, and how long they stay.
    Connections,
    /// How texts become vectors.
    Engine,
    /// What one request may ask for.
    Limits,
    /// How requests share the engine.
    Batching,
    /// What is kept of earlier requests.
    Cache,
    /// How the service ends.
    Shutdown,
    /// What is told of single requests, to whom.
    Traces,
    /// What is told on stderr.
    Logging,
}

impl Group {
    /// The heading in help and documentation.
    pub fn title(self) -> &'static str {
        match self {
            Self::Model => "Model and files",
            Self::Network => "Network",
            Self::Access => "Who may come in",
            Self::Connections => "Connections",
            Self::Engine => "Engine",
            Self::Limits => "Limits of a request",
            Self::Batching => "Batching",
            Self::Cache => "Cache",
            Self::Shutdown => "Shutdown",
            Self::Traces => "Traces",
            Self::Logging => "Logging",
        }
    }
}

impl Setting {
    /// The setting as flags and messages name it: `max-tokens`.
    pub fn name(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The flag: `--max-tokens`.
    pub fn flag(&self) -> String {
        format!("--{}", self.name())
    }

    /// The environment variable: `EMBEDD_MAX_TOKENS`.
    pub fn variable(&self) -> String {
        format!("EMBEDD_{}", self.key.to_ascii_uppercase())
    }

    /// What the setting means.
    pub fn help(&self) -> &'static str {
        self.doc.trim()
    }
}

/// The setting that goes by `key` in the TOML file.
pub fn by_key(key: &str) -> Option<&'static Setting> {
    super::TABLE.iter().find(|setting| setting.key == key)
}

/// The key that someone who wrote `key` may have meant.
pub(super) fn nearest_key(key: &str) -> Option<&'static str> {
    suggest::nearest(key, super::TABLE.iter().map(|setting| setting.key))
}

/// The variable that someone who wrote `variable` may have meant.
pub(super) fn nearest_variable(variable: &str) -> Option<String> {
    let ours = super::TABLE.iter().map(Setting::variable);
    let others = super::OTHER_VARIABLES.iter().map(|(name, _)| (*name).to_owned());
    let known: Vec<String> = ours.chain(others).collect();
    suggest::nearest(variable, known.iter().map(String::as_str)).map(str::to_owned)
}
