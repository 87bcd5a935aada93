//! The models: fetched to the cache folder, and converted by the code under test.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use embedd_common::progress::Progress;
use embedd_convert::{Conversion, Gate, Making, ProofPlan, convert};
use embedd_fetch::home::Home;
use embedd_fetch::model_ref::ModelRef;
use embedd_fetch::{Fetcher, RuntimeBuild};
use embedd_model::engine::OnnxRuntime;

use super::http::post;
use super::reference;
use super::server::{Server, command};

/// The models that the tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Model {
    /// `bert` with random weights, 32 dimensions, 64 tokens: for tests of everything except accuracy and speed. It is
    /// converted and loaded almost instantly.
    Small,
    /// all-mpnet-base-v2: `mpnet`, 768 dimensions.
    Mpnet,
    /// all-MiniLM-L6-v2: `bert`, 384 dimensions.
    MiniLm,
}

impl Model {
    /// The models with real weights.
    pub(crate) const REAL: [Self; 2] = [Self::Mpnet, Self::MiniLm];

    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Small => "tests/bert-mean",
            Self::Mpnet => "sentence-transformers/all-mpnet-base-v2",
            Self::MiniLm => "sentence-transformers/all-MiniLM-L6-v2",
        }
    }

    /// The id without the organization.
    pub(crate) fn name(self) -> &'static str {
        self.id().rsplit('/').next().expect("a name")
    }

    pub(crate) fn dimension(self) -> usize {
        match self {
            Self::Small => 32,
            Self::Mpnet => 768,
            Self::MiniLm => 384,
        }
    }

    pub(crate) fn max_tokens(self) -> u32 {
        match self {
            Self::Small => 64,
            Self::Mpnet => 384,
            Self::MiniLm => 256,
        }
    }

    /// The sentence-transformers folder.
    pub(crate) fn source(self) -> PathBuf {
        if self == Self::Small {
            return fixture("bert-mean");
        }
        fetcher().model(&self.hub_id()).expect("the model can be fetched")
    }

    /// The file of the reference set.
    pub(crate) fn reference(self) -> PathBuf {
        match self {
            Self::Small => fixture("bert-mean.expected.safetensors"),
            Self::Mpnet | Self::MiniLm => {
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("reference/{}.safetensors", self.name()))
            }
        }
    }

    /// A bundle, converted once per test run by the current code.
    pub(crate) fn bundle(self) -> &'static Path {
        static SMALL: OnceLock<PathBuf> = OnceLock::new();
        static MPNET: OnceLock<PathBuf> = OnceLock::new();
        static MINI_LM: OnceLock<PathBuf> = OnceLock::new();
        match self {
            // Random weights lose more to INT8 than those of a real model.
            Self::Small => SMALL.get_or_init(|| {
                let gate = Gate { min_cosine: 0.95, ..Gate::default() };
                let reference = Some(self.reference());
                self.convert(Making { reference, gate, report: false, ..Making::default() })
            }),
            Self::Mpnet => MPNET.get_or_init(|| {
                let reference = Some(reference::excerpt().to_owned());
                self.convert(Making { reference, report: false, ..Making::default() })
            }),
            Self::MiniLm => {
                MINI_LM.get_or_init(|| Home::at(&first_start().home).bundles_dir().join(self.hub_id().as_file_name()))
            }
        }
    }

    fn convert(self, making: Making) -> PathBuf {
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{self:?}"));
        let proof = ProofPlan { runtime: runtime(), making };
        let (source, name) = (self.source(), self.id().to_owned());
        let conversion = Conversion {
            source,
            output: output.clone(),
            name,
            revision: None,
            commit: None,
            replace: true,
            proof: Some(proof),
        };
        convert(&conversion, &Progress::plain()).expect("the model can be converted");
        output
    }

    fn hub_id(self) -> ModelRef {
        self.id().parse().expect("a hub id")
    }
}

/// The result of the first start with an empty cache folder, which serves MiniLM.
pub(crate) struct FirstStart {
    pub(crate) home: PathBuf,
    /// The response to [`FirstStart::request`].
    pub(crate) response: String,
}

impl FirstStart {
    /// Sends a request to a server of MiniLM. Returns the body of the response.
    pub(crate) fn request(server: &Server) -> String {
        let body = r#"{"model": "all-MiniLM-L6-v2", "input": "Hello world"}"#;
        let response = post(server.http(), "/v1/embeddings", &[("content-type", "application/json")], body);
        assert_eq!(response.status, 200, "{response:?}");
        response.body
    }
}

/// Starts the program with an empty cache folder, once per test run.
pub(crate) fn first_start() -> &'static FirstStart {
    static FIRST: OnceLock<FirstStart> = OnceLock::new();
    FIRST.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("home");
        match fs::remove_dir_all(&home) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", home.display()),
            _ => {}
        }
        let mut first = command();
        first.env("EMBEDD_HOME", &home).args(["--model", Model::MiniLm.id(), "--http-listen", "127.0.0.1:0"]);
        let server = Server::spawn(&mut first);
        server.wait_for_line("ready");
        FirstStart { response: FirstStart::request(&server), home }
    })
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(name)
}

/// Creates `folder` with the files of the model's bundle: copies of those in `changed`, and links to the others.
pub(crate) fn copy_of(model: Model, folder: &Path, changed: &[&str]) {
    fs::create_dir_all(folder).expect("a folder");
    for entry in fs::read_dir(model.bundle()).expect("the bundle") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        let copy = folder.join(name);
        if changed.iter().any(|changed| *changed == name) {
            fs::copy(&path, copy).expect("a copy");
        } else {
            std::os::unix::fs::symlink(&path, copy).expect("a link");
        }
    }
}

/// Shared, because a process can load the library only once.
pub(crate) fn runtime() -> OnnxRuntime {
    static RUNTIME: OnceLock<OnnxRuntime> = OnceLock::new();
    let load = || {
        let library = fetcher().runtime(RuntimeBuild::Cpu).expect("ONNX Runtime can be fetched").path;
        OnnxRuntime::load(&library).expect("the library loads")
    };
    RUNTIME.get_or_init(load).clone()
}

pub(crate) fn fetcher() -> Fetcher {
    Fetcher::from_env(home(), Progress::plain())
}

pub(crate) fn home() -> Home {
    let configured = std::env::var_os("EMBEDD_HOME").map(PathBuf::from);
    Home::find(configured).expect("a cache folder")
}

/// Programs that the tests install into the cache folder.
pub(crate) fn tools_folder() -> PathBuf {
    home().root().join("tools")
}
