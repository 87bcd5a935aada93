//! The table of settings. A setting is added here and nowhere else: its field in [`Settings`], its flag, variable and
//! TOML key, its help and its row in `docs/CONFIGURATION.md` all come from its entry.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::choices::{EngineChoice, HttpApiChoice, LogFormat, TraceParentChoice};
use super::files::{AdminTokenFile, BundleRoots};
use super::log_filter::{InvalidLogFilter, LogFilter};
use super::parse;
use super::reader::Reader;
use super::setting::{Group, Kind, Setting};
use crate::cache::CacheSharing;
use crate::caller::Priority;
use crate::cors_origins::CorsOrigins;
use crate::model_names::ModelNames;
use crate::trace::Ratio;
use embedd_fetch::model_ref::{DEFAULT_MODEL, ModelRef};
use embedd_fetch::revision::Revision;
use embedd_kernels::InstructionSet;
use embedd_model::PromptChoice;
use embedd_model::engine::{Device, InvalidDevice};
use embedd_model::tokenize::{AcceptedIds, SpecialTokens, Truncation};

/// Turns entries into [`Settings`], [`TABLE`] and the code that reads every field. An entry is a doc comment (the help)
/// and `key: type = group, kind "PLACEHOLDER", default, parser;`, with `also "VARIABLE"` after the placeholder if
/// another program's variable is read, too.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $key:ident: $type:ty = $group:ident, $kind:ident $placeholder:literal $(also $also:literal)?,
            $default:expr, $parse:expr;
    )+) => {
        /// The validated values of all settings.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings { $( $(#[doc = $doc])+ pub $key: $type, )+ }

        /// All settings, in the order in which help lists them.
        pub const TABLE: &[Setting] = &[$( Setting {
            key: stringify!($key),
            group: Group::$group,
            placeholder: $placeholder,
            kind: Kind::$kind,
            default: $default,
            also: &[$($also)?],
            doc: concat!($($doc),+),
        }, )+];

        impl Settings {
            /// Reads all fields before checking any of them, so that all mistakes are found.
            pub(super) fn read(reader: &mut Reader) -> Option<Self> {
                $(
                    let setting = by_key(stringify!($key))?;
                    let $key: Option<$type> = reader.read(setting, $parse);
                )+
                Some(Self { $( $key: $key?, )+ })
            }
        }
    };
}

/// The setting with this TOML key.
pub fn by_key(key: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.key == key)
}

// Plain comments give the reason for a default.
settings! {
    /// The model: a hub id, or the path of a sentence-transformers folder.
    model: ModelRef = Model, Text "MODEL", DEFAULT_MODEL, parse::model;

    // The hub's own default.
    /// The revision of a model from the hub: a branch, a tag, a commit or `refs/pr/N`. Each revision has its own model and
    /// bundle in the cache folder; a branch stays at the commit that was fetched first.
    revision: Revision = Model, Text "REVISION", "main", parse::revision;

    // Clients need no new configuration when the server gets another model.
    /// The names by which requests may call the model, separated by commas; replies have the first one. `auto`: the
    /// model's own name, such as `sentence-transformers/all-mpnet-base-v2`, and the last part of it.
    model_name: Option<ModelNames> = Model, Text "NAMES", "auto",
        |text| parse::unless("auto", text, parse::model_names);

    // Most users name a model; its bundle is in the cache folder.
    /// Use this bundle (the folder of a converted model) as it is; `none`: the bundle of `model` in the cache folder.
    bundle: Option<PathBuf> = Model, Text "FOLDER", "none", |text| parse::unless("none", text, parse::path);

    /// The cache folder, for fetched and converted files; `auto`: `embedd` in the user's cache folder.
    home: Option<PathBuf> = Model, Text "FOLDER", "auto", |text| parse::unless("auto", text, parse::path);

    // Whoever may call the admin service must not load files from elsewhere, or learn which ones exist.
    /// The folders from which the admin service may load bundles, separated by `:`; `auto`: the bundles of the cache
    /// folder; `none`: no others. The folder named by `bundle` is always allowed.
    bundle_roots: BundleRoots = Model, Text "FOLDERS", "auto", BundleRoots::parse;

    // Loading takes seconds, and comparing the reference set on a busy server up to a minute.
    /// How long the admin service may take to load another bundle; after that, the previous model stays in service.
    reload_timeout: Duration = Model, Text "TIME", "5m", |text| parse::duration(text, Duration::from_secs(3600));

    // The first start of a new installation must fetch the model.
    /// Do not fetch anything: files missing from the cache folder are an error.
    offline: bool = Model, Switch "BOOL", "false", parse::choice;

    /// The ONNX Runtime shared library; `auto`: the one in the cache folder.
    onnxruntime: Option<PathBuf> = Model, Text "FILE" also "ORT_DYLIB_PATH", "auto",
        |text| parse::unless("auto", text, parse::path);

    // All interfaces, because clients are other pods; 50051 is the customary port for gRPC services.
    /// The address that the gRPC service listens on; `[::]`: all addresses of the machine, IPv4 and IPv6.
    listen: SocketAddr = Network, Text "ADDRESS", "[::]:50051", parse::address;

    // Loopback: anyone who can reach this listener can reload the model and load the CPUs.
    /// The address that the admin service listens on, or `off`. Addresses other than loopback need `admin-token-file`
    /// or `admin-tls-client-ca`.
    admin_listen: Option<SocketAddr> = Network, Text "ADDRESS", "127.0.0.1:50052",
        |text| parse::unless("off", text, parse::address);

    // Without TLS and tokens, probes can use the listener of the service.
    /// The address of a listener that serves only gRPC health checks, without TLS and tokens, for health probes; or
    /// `off`.
    health_listen: Option<SocketAddr> = Network, Text "ADDRESS", "off",
        |text| parse::unless("off", text, parse::address);

    // All interfaces: Prometheus and the kubelet call from outside the pod. 9090 is a customary port for metrics.
    /// The address of the HTTP port, or `off`. It serves metrics and probes (`/metrics`, `/healthz`, `/readyz`) without
    /// authentication and, if `http-api` allows it, the APIs of other servers.
    http_listen: Option<SocketAddr> = Network, Text "ADDRESS", "[::]:9090",
        |text| parse::unless("off", text, parse::address);

    // The schema is public, and command-line clients are of little use without reflection.
    /// Serve gRPC reflection.
    reflection: bool = Network, Switch "BOOL", "true", parse::choice;

    // Clients of another server need only change the address.
    /// Also serve the protocols of text-embeddings-inference: gRPC (`tei.v1`) and REST (`/embed`, `/similarity`, ...).
    tei: bool = Network, Switch "BOOL", "true", parse::choice;

    // As for `tei`.
    /// Also serve the Open Inference Protocol of KServe and Triton: gRPC (`inference.GRPCInferenceService`) and REST
    /// (`/v2/models/MODEL/infer`).
    open_inference: bool = Network, Switch "BOOL", "true", parse::choice;

    // As for `tei`; but the HTTP port must not bypass TLS, client certificates or a loopback address of the gRPC
    // listener.
    /// Serve APIs on the HTTP port: those of OpenAI (`POST /v1/embeddings`, `GET /v1/models`) and Cohere (`POST /v2/embed`),
    /// and those that `tei` and `open-inference` enable: `on`, `off` or `auto`. `auto` is off if `tls-certificate` is set
    /// and `http-tls` is not, or if `http-listen` is reachable from more places than `listen`. If `token-file` is set, they
    /// require a token, too.
    http_api: HttpApiChoice = Network, Text "WHEN", "auto", parse::choice;

    // It reveals nothing without a token that the APIs do not.
    /// Serve a web page at `/` of the HTTP port, with the model, live figures, and a form that embeds texts; and a
    /// description of the APIs at `/docs`. Only if the port serves APIs.
    page: bool = Network, Switch "BOOL", "true", parse::choice;

    // Kubernetes' probes and Prometheus need no configuration without it.
    /// Use TLS on the HTTP port as well, with `tls-certificate`, `tls-key` and `tls-client-ca`.
    http_tls: bool = Network, Switch "BOOL", "false", parse::choice;

    // Few servers are called by browsers, and a page of any site could otherwise use the servers of its visitor's network.
    /// The origins of the web pages that may call the APIs of the HTTP port, separated by commas, such as
    /// `https://app.example.com`; `*`: all pages, which need a token if `token-file` is set; `off`: only pages of the
    /// server's own address.
    cors_origin: Option<CorsOrigins> = Network, Text "ORIGINS", "off",
        |text| parse::unless("off", text, parse::origins);

    // Most replies are smaller. Compression takes 4 ms per MB on a fast core and reduces JSON to 60 % of its size, which pays
    // off on networks slower than 1 Gbit/s.
    /// Compress replies of at least this size on the HTTP port for clients that accept gzip; `off`: never.
    gzip_replies: Option<NonZeroUsize> = Network, Text "SIZE", "64KiB",
        |text| parse::unless("off", text, |text| parse::size(text, 1..=1 << 30));

    // Most servers run inside a mesh or a cluster; users who need TLS have certificates to name.
    /// The certificate chain of the service (PEM), its own certificate first; the listener then accepts only TLS.
    /// Reloaded when the file changes; `none`: no TLS.
    tls_certificate: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    /// The private key (PEM) of `tls-certificate`.
    tls_key: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    /// Certificates (PEM) of the authorities that sign client certificates; every client then needs one. `none`:
    /// clients need no certificate.
    tls_client_ca: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    /// A file with the accepted bearer tokens, one per line; `#` begins a comment. A token may be followed by its quota,
    /// `texts_per_second=N` and `in_flight=N`. All calls except health checks then need `authorization: Bearer TOKEN`. Reloaded when the file changes; `none`: no token is needed.
    token_file: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    /// Like `tls-certificate`, but for the admin listener.
    admin_tls_certificate: Option<PathBuf> = Access, Text "FILE", "none",
        |text| parse::unless("none", text, parse::path);

    /// The private key (PEM) of `admin-tls-certificate`.
    admin_tls_key: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    /// Like `tls-client-ca`, but for the admin listener.
    admin_tls_client_ca: Option<PathBuf> = Access, Text "FILE", "none",
        |text| parse::unless("none", text, parse::path);

    // On loopback, too: other users and containers may share it.
    /// Like `token-file`, but for the admin service. `auto`: the server generates a token and stores it in the cache
    /// folder (`admin.token`) or, if it cannot be written, in `XDG_RUNTIME_DIR`, the temporary folder or `/dev/shm`;
    /// `embedd admin` finds it there. No token is generated if `admin-tls-client-ca` is set.
    admin_token_file: AdminTokenFile = Access, Text "FILE", "auto", AdminTokenFile::parse;

    // Clients are services with a few connections each. With files and the other listeners, 900 stay below the usual
    // limit of 1024 file descriptors; a full HTTP port in addition needs a higher limit.
    /// The maximum number of connections to the service; further ones are closed immediately. The HTTP port has the
    /// same limit for calls of its APIs.
    max_connections: NonZeroUsize = Connections, Number "N", "900", |text| parse::count(text, 1 << 20);

    // One connection can keep the CPUs busy many times over, and fill a quarter of the queue. Clients send up to 100
    // calls before they learn the limit.
    /// The maximum number of concurrent calls on one connection; further ones wait in the client. Below 100, calls of
    /// clients that do not know the limit yet may be rejected; most clients retry those, Rust's tonic does not.
    max_concurrent_streams: NonZeroUsize = Connections, Number "N", "256", |text| parse::count(text, 1 << 20);

    // Twice gRPC's usual limit: room for a token, trace contexts and the headers of service meshes.
    /// The maximum size of the headers (the metadata) of one call.
    max_header_bytes: NonZeroUsize = Connections, Number "SIZE", "16KiB", |text| parse::size(text, 1 << 10..=1 << 20);

    // Well below the 350 s after which a common load balancer drops an idle connection, and rare enough to cost
    // nothing.
    /// Send a keepalive ping on a connection that has been silent for this long; `off`: never.
    keepalive_interval: Option<Duration> = Connections, Text "TIME", "60s",
        |text| parse::unless("off", text, |text| parse::seconds(text, Duration::from_secs(86_400)));

    // gRPC's default.
    /// Close a connection that does not answer a keepalive ping within this time.
    keepalive_timeout: Duration = Connections, Text "TIME", "20s",
        |text| parse::seconds(text, Duration::from_secs(3600));

    // Clients that balance by DNS look up addresses when a connection closes: a new instance gets its share within
    // minutes, as autoscaling needs, and a handshake every ten minutes costs nothing.
    /// Ask clients to reconnect when a connection reaches this age, give or take a tenth; `off`: never.
    max_connection_age: Option<Duration> = Connections, Text "TIME", "10m",
        |text| parse::unless("off", text, |text| parse::seconds(text, Duration::from_secs(86_400)));

    // A call takes seconds at most. A stream may last longer, and has this time to end.
    /// How long calls in flight may go on after `max-connection-age` before they are cut off; `off`: no limit.
    max_connection_age_grace: Option<Duration> = Connections, Text "TIME", "5m",
        |text| parse::unless("off", text, |text| parse::duration(text, Duration::from_secs(86_400)));

    // Longer than the 600 s for which a common load balancer keeps idle connections: it must be the one that closes them, or
    // it sends requests on connections that are being closed.
    /// How long a connection to the HTTP port may stay open without a request.
    http_idle_timeout: Duration = Connections, Text "TIME", "620s",
        |text| parse::seconds(text, Duration::from_secs(86_400));

    // A reply is rarely larger than 0.8 MB and is sent in parts of 64 KiB. A client that takes a minute for one is not
    // reading.
    /// Close a connection whose client has read nothing for this long although replies are waiting.
    reply_timeout: Duration = Connections, Text "TIME", "60s", |text| parse::seconds(text, Duration::from_secs(3600));

    // Not detected: a GPU that exists may be meant for another process.
    /// The processor that runs the model: `cpu`, `cuda` (the first NVIDIA GPU that is visible to the process), or `cuda:N`
    /// (the GPU with number N). A server whose GPU cannot be used does not start.
    device: Device = Engine, Text "DEVICE", "cpu", |text| text.parse().map_err(|error: InvalidDevice| error.to_string());

    /// The engine that serves: `native` or `portable` (INT8, on CPUs), `fp16` (for GPUs), `fp32`, or `auto` (the fastest on
    /// the device).
    engine: EngineChoice = Engine, Text "ENGINE", "auto", parse::choice;

    // Useful for measurements only.
    /// The instruction set of the native engine's kernels: `amx-bf16`, `amx-int8`, `avx512-vnni`, `avx-vnni`, `avx2`,
    /// `neon-i8mm`, `neon-dotprod` or `plain`; `auto`: the fastest that this CPU has. `emulated-amx-bf16` has the bits of
    /// `amx-bf16` on a CPU without AMX, but is slow.
    instruction_set: Option<InstructionSet> = Engine, Text "SET", "auto",
        |text| parse::unless("auto", text, parse::choice);

    // Accuracy is the point of this project: the gate is bypassed only on request.
    /// Serve even an engine that failed the accuracy gate during conversion, or fails the startup self-check.
    allow_inaccurate: bool = Engine, Switch "BOOL", "false", parse::choice;

    // The longest batch takes a tenth of a second on a common machine; the rest is for one whose CPUs are overcommitted.
    /// Report NOT_SERVING while a batch has been running for longer than this, or a session fails whatever it is given, so
    /// that Kubernetes restarts the server; `off`: never.
    watchdog: Option<Duration> = Engine, Text "TIME", "60s",
        |text| parse::unless("off", text, |text| parse::seconds(text, Duration::from_secs(86_400)));

    // The CPU quota is known only at run time. 1024 is beyond any machine. On a GPU, one session prepares its next batch
    // while another one computes.
    /// The number of sessions; each computes one batch at a time; `auto`: from the CPU quota; 2 on a GPU.
    sessions: Option<NonZeroUsize> = Engine, Number "N", "auto",
        |text| parse::unless("auto", text, |text| parse::count(text, 1024));

    /// The number of threads per session; `auto`: from the CPU quota; 1 on a GPU.
    threads: Option<NonZeroUsize> = Engine, Number "N", "auto",
        |text| parse::unless("auto", text, |text| parse::count(text, 1024));

    // Two of the tokens mark start and end, so 3 is the minimum that contains text. No encoder has more positions.
    /// The maximum number of tokens per text, from 3 to the number of the model's positions; `auto`: the maximum that the
    /// model was trained with. A session's memory grows with the longest text: with 768 channels, about 25 kB per token.
    max_tokens: Option<u32> = Limits, Number "N", "auto",
        |text| parse::unless("auto", text, |text| parse::tokens(text, 3..=131_072));

    // As sentence-transformers does.
    /// What to do with longer texts unless the request says otherwise: cut off the `end` or the `start`, or `reject`
    /// them.
    truncation: Truncation = Limits, Text "SIDE", "end", parse::choice;

    // As sentence-transformers does.
    /// The name of the prompt that precedes the texts of requests that do not name one; `auto`: the model's default, if it
    /// has one; `none`: no prompt.
    default_prompt: PromptChoice = Limits, Text "NAME", "auto", parse::prompt;

    // Vectors are those of PyTorch, whatever the text. Detectors of unwanted content should not let it choose its tokens.
    /// How the names of special tokens in a text (`</s>`, `[SEP]`, `<mask>`) are treated: `interpret` (these tokens, as in
    /// PyTorch) or `text` (nothing but their characters, so that callers cannot use them to hide text from the model).
    special_tokens: SpecialTokens = Limits, Text "MEANING", "interpret", parse::choice;

    // LangChain sends ids of OpenAI's tokenizer by default. Most of them exist in other vocabularies as well, and
    // would be embedded as another text.
    /// Which token ids requests may send in place of a text: `marked` (with the special tokens that the model's tokenizer
    /// puts around every text, which shows that they belong to it) or `any`.
    token_ids: AcceptedIds = Limits, Text "WHICH", "marked", parse::choice;

    // 256 texts of the maximum size would be 16 MiB, but texts of ordinary size fit into one message, and the reply
    // (768 floats each, 0.8 MB) fits into the 4 MiB that gRPC clients accept by default.
    /// The maximum number of texts per request.
    max_texts: NonZeroUsize = Limits, Number "N", "256", |text| parse::count(text, 65_536);

    // OpenAI's limit, which its clients rely on. The queue stays fair, because such a request is queued in parts of
    // `max-texts`.
    /// The maximum number of texts per request on the HTTP port, unless `max-texts` is larger.
    http_max_texts: NonZeroUsize = Limits, Number "N", "2048", |text| parse::count(text, 65_536);

    // 512 tokens are about 2-4 KiB of English; 64 KiB leaves room for any language and still bounds the time to
    // tokenize.
    /// The maximum size of one text. Requests that ask for truncation may have longer texts, if the model's tokenizer need not
    /// process all of a text (BERT's and similar ones).
    max_text_bytes: NonZeroUsize = Limits, Number "SIZE", "64KiB", |text| parse::size(text, 1..=1 << 30);

    // Twice gRPC's default of 4 MiB: 256 texts of 32 KiB.
    /// The maximum size of one message from a client.
    max_message_bytes: NonZeroUsize = Limits, Number "SIZE", "8MiB", |text| parse::size(text, 1 << 10..=1 << 30);

    // Four messages of the maximum size. The budgets add up to the memory limit in deploy/base; OPERATING.md has the sum.
    /// The maximum memory of messages that are being received or processed, on all connections; calls that need more are
    /// rejected. A call counts for 8 KiB in addition to its messages.
    receive_bytes: NonZeroUsize = Limits, Number "SIZE", "32MiB", |text| parse::size(text, 1 << 16..=1 << 32);

    // Half of it, so that one client leaves room for others.
    /// The same limit for a single connection.
    receive_bytes_per_connection: NonZeroUsize = Limits, Number "SIZE", "16MiB",
        |text| parse::size(text, 1 << 16..=1 << 32);

    // 40 replies of 256 vectors of 768 floats.
    /// The maximum memory of replies that are being computed or have not been read by their callers, on all
    /// connections; calls wait until there is room for their replies.
    reply_bytes: NonZeroUsize = Limits, Number "SIZE", "32MiB", |text| parse::size(text, 1 << 16..=1 << 32);

    // A quarter of it, so that one client leaves room for others.
    /// The same limit for a single connection.
    reply_bytes_per_connection: NonZeroUsize = Limits, Number "SIZE", "8MiB",
        |text| parse::size(text, 1 << 16..=1 << 32);

    // All texts of a batch, and those that arrive in the meantime, wait for its end. On 2 CPUs, twice as many tokens per
    // batch are 4 to 6 % faster, but a short text beside long ones takes twice as long (docs/PERFORMANCE.md). A GPU needs
    // thousands of tokens at once; how many has not been measured.
    /// The maximum number of tokens per batch; a longer text is a batch of its own. `auto`: 256 on CPUs with INT8
    /// dot products, 64 on other CPUs, 16384 on a GPU.
    batch_tokens: Option<NonZeroUsize> = Batching, Number "N", "auto",
        |text| parse::unless("auto", text, |text| parse::count(text, 1 << 20));

    // Limits the latency of batches of short texts; batching more than about ten of them gains nothing on CPUs.
    /// The maximum number of texts per batch. `auto`: 64 on CPUs, 1024 on a GPU.
    batch_texts: Option<NonZeroUsize> = Batching, Number "N", "auto",
        |text| parse::unless("auto", text, |text| parse::count(text, 65_536));

    // A text of 64 tokens takes about 20 ms on two cores: with 40 per CPU the last one waits about 1.6 s on any
    // machine, and a server at twice its capacity answers the requests that it accepts within twice the latency of 64
    // callers (11 tokens: 0.4 s). Most callers give up on requests that wait longer. With a GPU, a batch alone may have 1024
    // requests.
    /// The maximum number of requests ahead of a new one in the queue; beyond that, new requests are rejected
    /// immediately. Callers take turns: of each other caller, as many count as of the same one, plus one. `auto`: 40 per
    /// CPU; 1024 with a GPU.
    queue_requests: Option<NonZeroUsize> = Batching, Number "N", "auto",
        |text| parse::unless("auto", text, |text| parse::count(text, 1 << 20));

    // 16 requests of the maximum size. A large request counts once for `queue_requests`, so the number of its texts
    // needs a limit of its own; this bounds memory: 4096 texts of 512 tokens are 8 MB.
    /// The maximum number of queued texts in total. One caller gets at most three quarters of them.
    queue_total_texts: NonZeroUsize = Batching, Number "N", "4096", |text| parse::count(text, 1 << 20);

    // Callers that know of priorities mark their bulk work; all others expect an answer soon.
    /// The priority of requests that do not set one with `embedd-priority`: `interactive` or `bulk`. While both are
    /// queued, a caller's interactive requests get eight times the throughput of its bulk requests.
    default_priority: Priority = Batching, Text "PRIORITY", "interactive", parse::choice;

    // About 18,000 vectors of 768 components.
    /// The maximum memory of the embedding cache; 0: no cache.
    cache_bytes: Option<NonZeroUsize> = Cache, Number "SIZE", "64MiB",
        |text| parse::unless("0", text, |text| parse::size(text, 1..=1 << 40));

    // Most servers have callers that trust each other, and the more callers share an entry, the more hits there are.
    /// Who shares the entries of the cache: all callers (`shared`), or only calls with the same token or client certificate
    /// (`caller`), so that nobody can find out which texts others have embedded. Calls without either share one scope.
    cache_scope: CacheSharing = Cache, Text "SCOPE", "shared", parse::choice;

    // A vector never becomes stale. But it reveals something about its text, so it stays in memory no longer than it is
    // useful.
    /// How long an embedding stays in the cache; `off`: until its space is needed.
    cache_ttl: Option<Duration> = Cache, Text "TIME", "1h",
        |text| parse::unless("off", text, |text| parse::duration(text, Duration::from_secs(366 * 24 * 3600)));

    // Load balancers need about that long to notice.
    /// How long health reports NOT_SERVING after SIGTERM before the listener closes.
    shutdown_grace: Duration = Shutdown, Text "TIME", "2s", |text| parse::duration(text, Duration::from_secs(3600));

    // With the grace of 2 s, it stays below the 30 s after which Kubernetes kills the process.
    /// How long accepted requests may take to finish after the listener has closed.
    drain_timeout: Duration = Shutdown, Text "TIME", "25s", |text| parse::duration(text, Duration::from_secs(3600));

    // By default, there is no collector to send to.
    /// The OpenTelemetry collector that traces are sent to by OTLP over gRPC, such as `http://localhost:4317` (or with
    /// `https`); `off`: no traces. The SDK's variables (`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS`,
    /// `OTEL_BSP_*`) are honored.
    otlp_endpoint: Option<Uri> = Traces, Text "URL", "off", |text| parse::unless("off", text, parse::url);

    // OpenTelemetry's default. A server under full load makes more spans than are worth sending, and drops those that
    // do not fit into the queue: in that case, 0.01 is enough.
    /// The fraction of calls that are traced, 0 to 1. Calls with a `traceparent` whose caller does not trace them never
    /// are.
    trace_ratio: Ratio = Traces, Number "RATIO", "1", str::parse;

    // Every caller can set the header, and with it fill the collector.
    /// Which of the calls that their callers trace (`traceparent` with the flag `sampled`) are traced: `ratio`: the
    /// fraction `trace-ratio`; `follow`: all of them, for servers that trust their callers.
    trace_parent: TraceParentChoice = Traces, Text "WHICH", "ratio", parse::choice;

    /// The format of log lines: `text`, `json`, or `auto` (text on a terminal, JSON elsewhere).
    log_format: LogFormat = Logging, Text "FORMAT", "auto", parse::choice;

    // One line for each event that operators care about, none for each request.
    /// The log filter: a level, optionally followed by module levels (`info,embedd::batch=debug`).
    log_level: LogFilter = Logging, Text "FILTER", "info",
        |text| text.parse().map_err(|expected: InvalidLogFilter| expected.to_string());
}
