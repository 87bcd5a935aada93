//! The one table of settings. A setting is added here and nowhere else: the field of [`Settings`], its flag, variable
//! and TOML key, its help and its row in `docs/CONFIGURATION.md` all come from its entry.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::choices::{EngineChoice, LogFormat, OpenAiChoice};
use super::log_filter::LogFilter;
use super::parse;
use super::resolve::Reader;
use super::setting::{Group, Kind, Setting};
use crate::trace::Ratio;
use embedd_fetch::model_ref::{DEFAULT_MODEL, ModelRef};
use embedd_kernels::InstructionSet;
use embedd_model::tokenize::Truncation;

/// Turns entries into [`Settings`], [`TABLE`] and the reading of every field. An entry is
/// `/// help`, `key: type = group, kind "PLACEHOLDER", default, parser;`, with `also "VARIABLE"` behind the placeholder
/// where another program's variable is read, too.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $key:ident: $type:ty = $group:ident, $kind:ident $placeholder:literal $(also $also:literal)?,
            $default:expr, $parse:expr;
    )+) => {
        /// The configuration of the service, every value checked.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings { $( $(#[doc = $doc])+ pub $key: $type, )+ }

        /// Every setting, in the order in which help lists them.
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
            /// Reads every field before the first that is missing ends it, so that all mistakes are found.
            pub(super) fn read(reader: &mut Reader) -> Option<Self> {
                $( let $key: Option<$type> = reader.read(stringify!($key), $parse); )+
                Some(Self { $( $key: $key?, )+ })
            }
        }
    };
}

// Why a default is what it is stands above its entry.
settings! {
    /// The model: a hub id or the path of a sentence-transformers folder.
    model: ModelRef = Model, Text "MODEL", DEFAULT_MODEL, parse::model;

    // Most users name a model; its bundle is then found in the cache folder.
    /// Serve this converted model (a bundle folder) as it is; `none`: the bundle of `model` in the cache folder.
    bundle: Option<PathBuf> = Model, Text "FOLDER", "none", |text| parse::unless("none", text, parse::path);

    /// The folder for fetched and converted files; `auto`: `embedd` in the user's cache folder.
    home: Option<PathBuf> = Model, Text "FOLDER", "auto", |text| parse::unless("auto", text, parse::path);

    // The first start of a fresh installation has to fetch the model.
    /// Never use the network: what is not in the cache folder is an error.
    offline: bool = Model, Switch "BOOL", "false", parse::choice;

    /// The ONNX Runtime shared library; `auto`: the one in the cache folder.
    onnxruntime: Option<PathBuf> = Model, Text "FILE" also "ORT_DYLIB_PATH", "auto",
        |text| parse::unless("auto", text, parse::path);

    // Every interface, since clients are other pods; 50051 is the port that gRPC services have by custom.
    /// Where the gRPC service listens.
    listen: SocketAddr = Network, Text "ADDRESS", "0.0.0.0:50051", parse::address;

    // Loopback: whoever reaches this listener can reload the model and load the CPUs.
    /// Where the admin service listens: a loopback address, any address where `admin-token-file` or
    /// `admin-tls-client-ca` guards it, or `off`.
    admin_listen: Option<SocketAddr> = Network, Text "ADDRESS", "127.0.0.1:50052",
        |text| parse::unless("off", text, parse::address);

    // Without TLS and tokens, probes can ask the service's own listener.
    /// Where health alone is served, without TLS and tokens: for probes that have neither; `off`: nowhere.
    health_listen: Option<SocketAddr> = Network, Text "ADDRESS", "off",
        |text| parse::unless("off", text, parse::address);

    // Every interface: who scrapes and probes are other pods. 9090 is a port that metrics have by custom.
    /// Where metrics and probes are served over HTTP (`/metrics`, `/healthz`, `/readyz`), without TLS and open to all, and
    /// OpenAI's API where `openai` has it so; `off`: nowhere.
    http_listen: Option<SocketAddr> = Network, Text "ADDRESS", "0.0.0.0:9090",
        |text| parse::unless("off", text, parse::address);

    // The schema is public, and command-line clients need it to be of use.
    /// Serve gRPC reflection.
    reflection: bool = Network, Switch "BOOL", "true", parse::choice;

    // Whoever comes from another server only has to change the address.
    /// Speak the gRPC protocol of text-embeddings-inference (`tei.v1`), too.
    tei: bool = Network, Switch "BOOL", "true", parse::choice;

    // As for `tei`.
    /// Speak the Open Inference Protocol of KServe and Triton (`inference.GRPCInferenceService`), too.
    open_inference: bool = Network, Switch "BOOL", "true", parse::choice;

    // As for `tei`; but the HTTP port must not open what TLS, certificates of clients or an address of loopback close.
    /// Serve OpenAI's API (`POST /v1/embeddings`, `GET /v1/models`) on the HTTP port: `on`, `off`, or `auto` (unless
    /// `tls-certificate` is set, because that port has no TLS, or `http-listen` can be reached from where `listen`
    /// cannot). Where there are tokens (`token-file`), it needs them, too.
    openai: OpenAiChoice = Network, Text "WHEN", "auto", parse::choice;

    // Most services stand behind a mesh or in one cluster; whoever needs TLS has certificates to name.
    /// The service's certificate chain (PEM), its own certificate first: then the listener speaks TLS only; taken up anew
    /// when the file changes; `none`: no TLS.
    tls_certificate: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    /// The private key (PEM) of `tls-certificate`.
    tls_key: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    /// Certificates (PEM) of those who sign clients' certificates: then every client needs one; `none`: clients need none.
    tls_client_ca: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    /// Tokens that open the service, one a line, `#` begins a comment; calls then need `authorization: Bearer TOKEN`,
    /// health excepted; taken up anew when the file changes; `none`: no token is needed.
    token_file: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    /// As `tls-certificate`, of the admin listener.
    admin_tls_certificate: Option<PathBuf> = Access, Text "FILE", "none",
        |text| parse::unless("none", text, parse::path);

    /// The private key (PEM) of `admin-tls-certificate`.
    admin_tls_key: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    /// As `tls-client-ca`, of the admin listener.
    admin_tls_client_ca: Option<PathBuf> = Access, Text "FILE", "none",
        |text| parse::unless("none", text, parse::path);

    /// As `token-file`, of the admin service.
    admin_token_file: Option<PathBuf> = Access, Text "FILE", "none", |text| parse::unless("none", text, parse::path);

    // Clients are services with a connection or a few each. With the files and the other listeners, 900 stay below the 1024
    // descriptors that a process has by custom; whoever fills the HTTP port as well needs more of them.
    /// Connections of the service's listener, at most; those beyond are closed at once. As many may call OpenAI's API on
    /// the HTTP port.
    max_connections: NonZeroUsize = Connections, Number "N", "900", |text| parse::count(text, 1 << 20);

    // One connection may keep the CPUs busy many times over, and fill a quarter of the queue. Clients begin with up to 100
    // calls before they have read the limit.
    /// Calls under way on one connection, at most; those beyond wait in their client. Below 100, calls of a client that has
    /// not read the limit yet may be refused; most clients repeat those, Rust's tonic does not.
    max_concurrent_streams: NonZeroUsize = Connections, Number "N", "256", |text| parse::count(text, 1 << 20);

    // Twice what gRPC takes by custom: a token, trace contexts and what meshes add.
    /// Bytes of the header list (the metadata) of one call, at most.
    max_header_bytes: NonZeroUsize = Connections, Number "SIZE", "16KiB", |text| parse::size(text, 1 << 10..=1 << 20);

    // Well below the 350 s after which a common load balancer forgets a silent connection, and seldom enough to cost nothing.
    /// A connection that is silent for this long is asked whether its client is still there; `off`: never.
    keepalive_interval: Option<Duration> = Connections, Text "TIME", "60s",
        |text| parse::unless("off", text, |text| parse::seconds(text, Duration::from_secs(86_400)));

    // gRPC's own.
    /// How long the answer to that may take before the connection is closed.
    keepalive_timeout: Duration = Connections, Text "TIME", "20s",
        |text| parse::seconds(text, Duration::from_secs(3600));

    // Clients that balance by DNS look up addresses when a connection ends: an instance that joins has its share within
    // minutes, as autoscaling wants, and a handshake every ten minutes costs nothing.
    /// How old a connection becomes, give or take a tenth, before its client is told to make another one; `off`: any age.
    max_connection_age: Option<Duration> = Connections, Text "TIME", "10m",
        |text| parse::unless("off", text, |text| parse::seconds(text, Duration::from_secs(86_400)));

    // A call takes seconds at most. A stream may last longer: this is what it has left to come to its end.
    /// How long calls under way may then take before they are cut off; `off`: as long as they like.
    max_connection_age_grace: Option<Duration> = Connections, Text "TIME", "5m",
        |text| parse::unless("off", text, |text| parse::duration(text, Duration::from_secs(86_400)));

    /// The implementation that serves: `auto` (the fastest on this CPU), `native`, `portable` or `fp32`.
    engine: EngineChoice = Engine, Text "ENGINE", "auto", parse::choice;

    // For those who measure: the fastest is what everybody else wants.
    /// The instruction set of the native engine's kernels: `avx512-vnni`, `avx2` or `plain`; `auto`: the fastest of
    /// this CPU.
    instruction_set: Option<InstructionSet> = Engine, Text "SET", "auto",
        |text| parse::unless("auto", text, parse::choice);

    // The gate is what the project is for: who passes it by must say so.
    /// Serve a model all the same that failed the accuracy gate when it was converted, or fails the self-check at start.
    allow_inaccurate: bool = Engine, Switch "BOOL", "false", parse::choice;

    // The CPU quota is known only where the service runs. 1024 is beyond any machine.
    /// Sessions in the pool, each computing one batch at a time; `auto`: from the CPU quota.
    sessions: Option<NonZeroUsize> = Engine, Number "N", "auto",
        |text| parse::unless("auto", text, |text| parse::count(text, 1024));

    /// Threads of each session; `auto`: from the CPU quota.
    threads: Option<NonZeroUsize> = Engine, Number "N", "auto",
        |text| parse::unless("auto", text, |text| parse::count(text, 1024));

    // Two of the tokens mark start and end, so 3 is the least that holds text; 512 is what the encoders are built for.
    /// The tokens of a text that are read, 3 to 512; `auto`: as many as the model was trained for.
    max_tokens: Option<u32> = Limits, Number "N", "auto",
        |text| parse::unless("auto", text, |text| parse::tokens(text, 3..=512));

    // As sentence-transformers does.
    /// What becomes of a longer text where the request does not say: its `end` or `start` is cut off, or `reject`.
    truncation: Truncation = Limits, Text "SIDE", "end", parse::choice;

    // 256 texts of the largest size would be 16 MiB, but texts of ordinary size fit one message, and their reply (768
    // floats each, 0.8 MB) fits the 4 MiB that gRPC clients take by default.
    /// Texts in one request, at most.
    max_texts: NonZeroUsize = Limits, Number "N", "256", |text| parse::count(text, 65_536);

    // 512 tokens are some 2-4 KiB of English; 64 KiB leaves room for any language and still bounds tokenising time.
    /// Bytes of one text, at most.
    max_text_bytes: NonZeroUsize = Limits, Number "SIZE", "64KiB", |text| parse::size(text, 1..=1 << 30);

    // Twice gRPC's own 4 MiB: 256 texts of 32 KiB.
    /// Bytes of one message from a client, at most.
    max_message_bytes: NonZeroUsize = Limits, Number "SIZE", "8MiB", |text| parse::size(text, 1 << 10..=1 << 30);

    // A token of the native engine costs the same in batches of 64 tokens and of 128 (all-mpnet-base-v2, 2 cores of
    // AVX-512: 0.27 ms), and all texts of a batch wait for its end: 512 tokens leave room for the longest text of most
    // models. A larger batch costs latency and memory, and brings nothing.
    /// Tokens in one batch, at most; a longer text is a batch of its own.
    batch_tokens: NonZeroUsize = Batching, Number "N", "512", |text| parse::count(text, 1 << 20);

    // Batches of short texts end sooner; beyond some ten of them a batch brings nothing.
    /// Texts in one batch, at most.
    batch_texts: NonZeroUsize = Batching, Number "N", "64", |text| parse::count(text, 65_536);

    // A text of 64 tokens takes some 20 ms of two cores: with 40 for each CPU the last one waits about 1.6 s on any
    // machine, and a server that is asked for twice what it can do answers what it takes within twice the time that 64
    // callers have (11 tokens: 0.4 s). What waits longer has mostly been given up by its caller.
    /// Requests of which texts may be due before a new request, which is refused at once where there are more; `auto`: 40
    /// for each CPU.
    queue_requests: Option<NonZeroUsize> = Batching, Number "N", "auto",
        |text| parse::unless("auto", text, |text| parse::count(text, 1 << 20));

    // 16 requests of the largest size. The texts of a large request are due one by one, so they do not count above;
    // this bounds memory: 4096 texts of 512 tokens are 8 MB.
    /// Texts that wait in all, at most, those of large requests that are not due yet included.
    queue_total_texts: NonZeroUsize = Batching, Number "N", "4096", |text| parse::count(text, 1 << 20);

    // About 18,000 vectors of 768 components.
    /// Memory for embeddings that were computed before; 0: no cache.
    cache_bytes: Option<NonZeroUsize> = Cache, Number "SIZE", "64MiB",
        |text| parse::unless("0", text, |text| parse::size(text, 1..=1 << 40));

    // A vector never grows stale: it is what the model makes of its text. An hour keeps texts of callers, in the form
    // of their vectors, no longer in memory than they are of use.
    /// How long an embedding is kept; `off`: until its place is needed.
    cache_ttl: Option<Duration> = Cache, Text "TIME", "1h",
        |text| parse::unless("off", text, |text| parse::duration(text, Duration::from_secs(366 * 24 * 3600)));

    // Load balancers need about that long to see that this instance is going.
    /// How long health says NOT_SERVING on SIGTERM before the listener closes.
    shutdown_grace: Duration = Shutdown, Text "TIME", "2s", |text| parse::duration(text, Duration::from_secs(3600));

    // With the 2 s of grace it stays below the 30 s after which Kubernetes kills.
    /// How long accepted requests may take to finish once the listener has closed.
    drain_timeout: Duration = Shutdown, Text "TIME", "25s", |text| parse::duration(text, Duration::from_secs(3600));

    // A collector is a program of its own: who has one names it.
    /// Where traces go, by OTLP over gRPC: a collector's address such as `http://localhost:4317`, or with `https`; `off`:
    /// nowhere. The SDK's variables (`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_*`) are honoured.
    otlp_endpoint: Option<Uri> = Traces, Text "URL", "off", |text| parse::unless("off", text, parse::url);

    // As OpenTelemetry has it. A server under full load makes more spans than it is worth sending, and drops what does not
    // fit in the queue: then a hundredth tells as much.
    /// The part of calls that are traced among those that come without a `traceparent`, 0 to 1; of the others, those are
    /// traced whose callers trace them.
    trace_ratio: Ratio = Traces, Number "RATIO", "1", str::parse;

    /// The form of log lines: `text`, `json`, or `auto` (text on a terminal, JSON elsewhere).
    log_format: LogFormat = Logging, Text "FORMAT", "auto", parse::choice;

    // A line for what an operator would want to know; none for each request.
    /// Which log lines are written: a level, and levels of modules behind commas (`info,embedd::batch=debug`).
    log_level: LogFilter = Logging, Text "FILTER", "info",
        |text| text.parse().map_err(|expected: super::InvalidLogFilter| expected.to_string());
}
