//! Tests the program from the outside: the real binary, real models, real sockets, real clients.
//!
//! Models and libraries are fetched to the cache folder (`EMBEDD_HOME`) by the program's own code.
//!
//! No test measures time, because the machine may be busy. Tests wait for events: a log line, a metric, a reply. Limits on
//! waiting only end tests that hang.

mod support;

mod access;
mod accuracy;
mod admin;
mod admin_command;
mod api_reference;
mod architecture;
mod batch_invariance;
mod caching;
mod checkpoints;
mod client;
mod cold_start;
mod command_line;
mod deadlines;
mod deploy;
mod describe_command;
mod detector;
mod embed_command;
mod embedding;
mod fairness;
mod fetch_command;
mod gpu;
mod grpcurl;
mod health;
mod http_apis;
mod hub_cache;
mod invalid_requests;
mod lifecycle;
mod load;
mod logging;
mod long_texts;
mod metrics;
mod native;
mod native_server;
mod open_inference;
mod openai;
mod package;
mod page;
mod prompts;
mod proof;
mod protocols;
mod quantized;
mod reload;
mod request_ids;
mod secrecy;
mod streaming;
mod tei;
mod traces;
