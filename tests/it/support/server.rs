//! Starts and calls servers, and watches their logs and metrics.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use embedd_fetch::RuntimeBuild;
use embedd_proto::admin_service_client::AdminServiceClient;
use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use embedd_proto::{EmbedRequest, EmbedResponse};
use serde_json::Value;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::PATIENCE;
use super::exposition::Exposition;
use super::http::get_with;
use super::models::{Model, fetcher};
use super::process::Process;

pub(crate) type Client = EmbeddingServiceClient<Channel>;
pub(crate) type AdminClient = AdminServiceClient<InterceptedService<Channel, AdminToken>>;

/// Adds the token that a server has generated to every call.
#[derive(Debug, Clone)]
pub(crate) struct AdminToken(Option<MetadataValue<Ascii>>);

impl Interceptor for AdminToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// The time between two reads of the metrics.
const POLL: Duration = Duration::from_millis(20);

/// A running server. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Mutex<Process>,
    pub(crate) address: SocketAddr,
    pub(crate) admin_address: SocketAddr,
    http_address: Option<SocketAddr>,
    /// The file of the generated token, once the server has logged it.
    admin_token_file: OnceLock<PathBuf>,
    lines: Mutex<mpsc::Receiver<Value>>,
    /// Returns the whole log when it ends.
    reader: Mutex<Option<JoinHandle<String>>>,
}

impl Server {
    /// Serves a model's bundle in float32, without a cache, with an HTTP port; `flags` are added.
    pub(crate) fn start(model: Model, flags: &[&str]) -> Self {
        let server = Self::launch(model, flags);
        server.wait_for_line("ready");
        server
    }

    /// Like `start`, but does not wait until the model is loaded.
    pub(crate) fn launch(model: Model, flags: &[&str]) -> Self {
        Self::spawn(&mut serve(model.bundle(), flags))
    }

    /// Starts a server with any command line; the system chooses the ports that it does not name.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        for flag in ["--listen", "--admin-listen"] {
            if !command.get_args().any(|argument| argument == flag) {
                command.args([flag, "127.0.0.1:0"]);
            }
        }
        let http = command.get_args().any(|argument| argument == "--http-listen");
        command.args(["--log-format", "json"]).stderr(Stdio::piped());
        let mut process = Process::spawn(command);
        let stderr = process.child.stderr.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut log = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.push_str(&line);
                log.push('\n');
                match serde_json::from_str(&line) {
                    Ok(value) => drop(sender.send(value)),
                    Err(_) => eprintln!("server: {line}"),
                }
            }
            log
        });
        let mut server = Self {
            process: Mutex::new(process),
            address: ([127, 0, 0, 1], 0).into(),
            admin_address: ([127, 0, 0, 1], 0).into(),
            http_address: None,
            admin_token_file: OnceLock::new(),
            lines: Mutex::new(lines),
            reader: Mutex::new(Some(reader)),
        };
        server.address = server.read_address();
        server.admin_address = server.read_address();
        server.http_address = http.then(|| server.read_address());
        server
    }

    /// The whole log of a server that has ended; to be called once.
    pub(crate) fn log(&self) -> String {
        let reader = self.reader.lock().expect("no panic").take().expect("the first call");
        reader.join().expect("no panic")
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http_address.expect("an HTTP port")
    }

    pub(crate) fn metrics(&self) -> Exposition {
        Exposition::parse(&get_with(self.http(), "/metrics", &[("accept", "application/openmetrics-text")]).body)
    }

    /// Returns the metrics once they fulfill a condition. Blocks the thread, for tests without a runtime.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&Exposition) -> bool) -> Exposition {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics();
            if holds(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < deadline, "never happened: {what}: {metrics:?}");
            std::thread::sleep(POLL);
        }
    }

    /// Returns the metrics once they fulfill a condition.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Exposition) -> bool) -> Exposition {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics();
            if holds(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < deadline, "never happened: {what}: {metrics:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// The address of the next listener in the log.
    pub(crate) fn read_address(&self) -> SocketAddr {
        let line = self.wait_for_line("listening");
        line["address"].as_str().and_then(|address| address.parse().ok()).expect("an address")
    }

    /// The next line of the log with this message; lines before it are skipped.
    pub(crate) fn wait_for_line(&self, message: &str) -> Value {
        let lines = self.lines.lock().expect("no panic");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left).unwrap_or_else(|_| panic!("the server never logged `{message}`"));
            if let Some(path) = line["admin_token_file"].as_str() {
                self.admin_token_file.set(path.into()).expect("logged once");
            }
            if line["message"] == message {
                return line;
            }
            eprintln!("server: {line}");
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.url()).expect("an address").connect().await.expect("a connection")
    }

    pub(crate) async fn client(&self) -> Client {
        EmbeddingServiceClient::new(self.channel().await).max_decoding_message_size(64 << 20)
    }

    pub(crate) async fn admin(&self) -> AdminClient {
        let channel = Channel::from_shared(format!("http://{}", self.admin_address)).expect("an address");
        let token = self.admin_token().map(|token| format!("Bearer {token}").parse().expect("a header"));
        AdminServiceClient::with_interceptor(channel.connect().await.expect("a connection"), AdminToken(token))
    }

    /// The token that the server has generated.
    pub(crate) fn admin_token(&self) -> Option<String> {
        let token = |path: &PathBuf| std::fs::read_to_string(path).expect("the token").trim().to_owned();
        self.admin_token_file.get().map(token)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.lock().expect("no panic").id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.process.lock().expect("no panic").signal(signal);
    }

    /// Waits for the process to end by itself. Blocks the thread, and with it the clients of a test that has one thread.
    pub(crate) fn wait(&self) -> ExitStatus {
        self.process.lock().expect("no panic").wait()
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn exit(&self) -> ExitStatus {
        let wait = async {
            loop {
                let status = self.process.lock().expect("no panic").child.try_wait();
                if let Some(status) = status.expect("a child") {
                    return status;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the server ends")
    }
}

/// The command that [`Server::start`] runs.
pub(crate) fn serve(bundle: &Path, flags: &[&str]) -> Command {
    let mut command = serve_anything(flags);
    command.arg("--bundle").arg(bundle);
    command
}

/// Like [`serve`], without naming what is served.
pub(crate) fn serve_anything(flags: &[&str]) -> Command {
    let runtime = fetcher().runtime(RuntimeBuild::Cpu).expect("ONNX Runtime can be fetched").path;
    let mut command = command();
    command.arg("serve").arg("--onnxruntime").arg(runtime);
    let defaults = [("--engine", "fp32"), ("--cache-bytes", "0"), ("--http-listen", "127.0.0.1:0")];
    for (flag, value) in defaults {
        if !flags.contains(&flag) {
            command.args([flag, value]);
        }
    }
    command.args(flags);
    command
}

/// The program, without any configuration from the environment except the cache folder.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embedd"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("EMBEDD_") && name != "EMBEDD_HOME" {
            command.env_remove(name);
        }
    }
    // Servers of many tests run at the same time, so they cannot all have the default port.
    command.env("EMBEDD_HTTP_LISTEN", "off");
    command
}

/// A float32 server with otherwise default settings, for all tests that neither stop it nor rely on its counters.
pub(crate) fn shared(model: Model) -> &'static Server {
    shared_engine(model, "fp32")
}

/// Like [`shared`], with the native engine, which computes the same bits in every batch.
pub(crate) fn shared_native(model: Model) -> &'static Server {
    shared_engine(model, "native")
}

fn shared_engine(model: Model, engine: &'static str) -> &'static Server {
    type Slot = &'static OnceLock<Server>;
    static SLOTS: Mutex<BTreeMap<(Model, &str), Slot>> = Mutex::new(BTreeMap::new());
    // Servers do not wait for each other to load.
    let slot = *SLOTS.lock().expect("no panic").entry((model, engine)).or_insert_with(|| Box::leak(Box::default()));
    slot.get_or_init(|| Server::start(model, &["--engine", engine]))
}

/// The output of a server that fails to start and exits with code 1.
pub(crate) fn fails_to_serve(bundle: &Path, flags: &[&str]) -> String {
    let mut serve = serve(bundle, &[&["--listen", "127.0.0.1:0", "--admin-listen", "off"], flags].concat());
    let output = serve.output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

/// An Embed call with default options.
pub(crate) async fn embed(client: &mut Client, texts: &[&str]) -> EmbedResponse {
    client.embed(request(texts)).await.expect("embeddings").into_inner()
}

/// An Embed request with default options.
pub(crate) fn request(texts: &[&str]) -> EmbedRequest {
    EmbedRequest { texts: texts.iter().map(|&text| text.to_owned()).collect(), ..Default::default() }
}

/// Texts of 252 tokens, each of which takes a core about 20 ms.
pub(crate) fn long_texts(count: usize) -> EmbedRequest {
    EmbedRequest { texts: vec!["word ".repeat(250); count], skip_cache: true, ..Default::default() }
}

/// A folder that is removed with the value.
pub(crate) fn temporary_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_owned();
    (folder, path)
}
