//! The real server, as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use embedd_proto::admin_service_client::AdminServiceClient;
use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use embedd_proto::{EmbedRequest, EmbedResponse};
use serde_json::Value;
use tonic::transport::Channel;

use super::PATIENCE;
use super::exposition::Exposition;
use super::http::get;
use super::models::{Model, fetcher};

pub(crate) type Client = EmbeddingServiceClient<Channel>;
pub(crate) type AdminClient = AdminServiceClient<Channel>;

/// Flags for a server with an HTTP port.
pub(crate) const HTTP: [&str; 2] = ["--http-listen", "127.0.0.1:0"];

/// A server under way; killed when it is dropped.
pub(crate) struct Server {
    child: Mutex<Child>,
    pub(crate) address: SocketAddr,
    pub(crate) admin_address: SocketAddr,
    http_address: Option<SocketAddr>,
    lines: Mutex<mpsc::Receiver<Value>>,
    /// Gives all lines at their end.
    reader: Mutex<Option<JoinHandle<String>>>,
}

impl Server {
    /// Serves a model's bundle in float32 and without a cache; `flags` come on top.
    pub(crate) fn start(model: Model, flags: &[&str]) -> Self {
        let server = Self::launch(model, flags);
        server.wait_for_line("ready");
        server
    }

    /// As `start`, but it may still be loading.
    pub(crate) fn launch(model: Model, flags: &[&str]) -> Self {
        Self::spawn(&mut serve(model, flags))
    }

    /// Starts any command line that serves; ports are the system's choice where it names none.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        for flag in ["--listen", "--admin-listen"] {
            if !command.get_args().any(|argument| argument == flag) {
                command.args([flag, "127.0.0.1:0"]);
            }
        }
        let http = command.get_args().any(|argument| argument == "--http-listen");
        command.args(["--log-format", "json"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the server starts");
        let stderr = child.stderr.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut said = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                said.push_str(&line);
                said.push('\n');
                match serde_json::from_str(&line) {
                    Ok(value) => drop(sender.send(value)),
                    Err(_) => eprintln!("server: {line}"),
                }
            }
            said
        });
        let mut server = Self {
            child: Mutex::new(child),
            address: ([127, 0, 0, 1], 0).into(),
            admin_address: ([127, 0, 0, 1], 0).into(),
            http_address: None,
            lines: Mutex::new(lines),
            reader: Mutex::new(Some(reader)),
        };
        server.address = server.read_address();
        server.admin_address = server.read_address();
        server.http_address = http.then(|| server.read_address());
        server
    }

    /// All that a server has said that has ended; asked for once.
    pub(crate) fn said(&self) -> String {
        let reader = self.reader.lock().expect("no panic").take().expect("it is asked once");
        reader.join().expect("no panic")
    }

    /// Of a server that was started with [`HTTP`].
    pub(crate) fn http(&self) -> SocketAddr {
        self.http_address.expect("an HTTP port")
    }

    /// What it tells Prometheus.
    pub(crate) fn metrics(&self) -> Exposition {
        Exposition::parse(&get(self.http(), "/metrics").body)
    }

    /// Of the listener that is told next.
    pub(crate) fn read_address(&self) -> SocketAddr {
        let line = self.wait_for_line("listening");
        line["address"].as_str().and_then(|address| address.parse().ok()).expect("an address")
    }

    /// The next line of the log with this message; lines before it are passed over.
    pub(crate) fn wait_for_line(&self, message: &str) -> Value {
        let lines = self.lines.lock().expect("no panic");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left).unwrap_or_else(|_| panic!("the server never said `{message}`"));
            if line["message"] == message {
                return line;
            }
            eprintln!("server: {line}");
        }
    }

    pub(crate) async fn client(&self) -> Client {
        let client = EmbeddingServiceClient::connect(format!("http://{}", self.address)).await.expect("a connection");
        client.max_decoding_message_size(64 << 20)
    }

    pub(crate) async fn admin(&self) -> AdminClient {
        AdminServiceClient::connect(format!("http://{}", self.admin_address)).await.expect("a connection")
    }

    /// Of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.lock().expect("no panic").id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-s", signal, &id]).status().expect("kill runs");
        assert!(status.success(), "kill -s {signal}");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.lock().expect("no panic").try_wait().expect("a child") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = self.child.get_mut().expect("no panic");
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// What [`Server::start`] runs.
pub(crate) fn serve(model: Model, flags: &[&str]) -> Command {
    let runtime = fetcher().runtime().expect("ONNX Runtime can be fetched");
    let mut command = command();
    command.arg("serve").arg("--bundle").arg(model.bundle()).arg("--onnxruntime").arg(runtime);
    if !flags.contains(&"--engine") {
        command.args(["--engine", "fp32"]);
    }
    if !flags.contains(&"--cache-bytes") {
        // What is tested is mostly what is computed.
        command.args(["--cache-bytes", "0"]);
    }
    command.args(flags);
    command
}

/// The program, without whatever configuration the environment holds but the cache folder.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embedd"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("EMBEDD_") && name != "EMBEDD_HOME" {
            command.env_remove(name);
        }
    }
    // Servers of many tests run at once, and one port is not enough for all.
    command.env("EMBEDD_HTTP_LISTEN", "off");
    command
}

/// A float32 server of the model with default settings otherwise, shared by the tests that run at the same time.
pub(crate) fn shared(model: Model) -> Arc<Server> {
    static MPNET: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    static MINI_LM: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let slot = match model {
        Model::Mpnet => &MPNET,
        Model::MiniLm => &MINI_LM,
    };
    let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(server) = slot.upgrade() {
        return server;
    }
    let server = Arc::new(Server::start(model, &[]));
    *slot = Arc::downgrade(&server);
    server
}

/// What a server says before it ends with exit code 1, though all that it needs is named.
pub(crate) fn refused(bundle: &Path, flags: &[&str]) -> String {
    let runtime = fetcher().runtime().expect("ONNX Runtime can be fetched");
    let mut serve = command();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--onnxruntime"]).arg(runtime);
    let output = serve.arg("--bundle").arg(bundle).args(flags).output().expect("the program runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    told
}

/// An Embed call with default options.
pub(crate) async fn embed(client: &mut Client, texts: &[&str]) -> EmbedResponse {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    let request = EmbedRequest { texts, ..Default::default() };
    client.embed(request).await.expect("embeddings").into_inner()
}

/// A folder that is removed with the value.
pub(crate) fn temporary_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_owned();
    (folder, path)
}
