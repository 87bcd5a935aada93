//! The definition of a setting: its names, default and meaning.

/// One row of the table of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The key in the TOML file (`max_tokens`). The names of the flag and the variable are derived from it.
    pub key: &'static str,
    /// The heading that help lists it under.
    pub group: Group,
    /// The placeholder for its value in help: `N`, `ADDRESS`.
    pub placeholder: &'static str,
    /// Its natural TOML type.
    pub kind: Kind,
    /// The text that is parsed if no source sets one.
    pub default: &'static str,
    /// Variables of other programs that are also read, with lower priority than the setting's own.
    pub also: &'static [&'static str],
    pub(super) doc: &'static str,
}

/// The TOML types that a setting accepts in addition to text in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No other type.
    Text,
    /// Numbers.
    Number,
    /// `true` and `false`.
    Switch,
}

/// A group of related settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The served model, and files.
    Model,
    /// Listeners and protocols.
    Network,
    /// TLS and bearer tokens.
    Access,
    /// Connection limits.
    Connections,
    /// The inference engine and its sessions.
    Engine,
    /// Request limits.
    Limits,
    /// Batching and queueing.
    Batching,
    /// The cache of embeddings.
    Cache,
    /// Graceful shutdown.
    Shutdown,
    /// OpenTelemetry traces.
    Traces,
    /// Log lines.
    Logging,
}

impl Group {
    /// The heading in help and documentation.
    pub fn title(self) -> &'static str {
        match self {
            Self::Model => "Model and files",
            Self::Network => "Network",
            Self::Access => "Authentication and TLS",
            Self::Connections => "Connections",
            Self::Engine => "Engine",
            Self::Limits => "Request limits",
            Self::Batching => "Batching",
            Self::Cache => "Cache",
            Self::Shutdown => "Shutdown",
            Self::Traces => "Traces",
            Self::Logging => "Logging",
        }
    }
}

impl Setting {
    /// The name in flags and messages: `max-tokens`.
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

    /// The help text: what the setting does.
    pub fn help(&self) -> &'static str {
        self.doc.trim()
    }
}
