//! The program as its users meet it: the real binary, real models, real sockets, a real client.
//!
//! What the tests need is fetched to the cache folder (`EMBEDD_HOME`) by the program's own code.

mod support;

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
mod detector;
mod doors;
mod embed_command;
mod embedding;
mod fairness;
mod fetch_command;
mod grpcurl;
mod health;
mod invalid_requests;
mod lifecycle;
mod load;
mod metrics;
mod native;
mod native_server;
mod open_inference;
mod openai;
mod package;
mod proof;
mod protocols;
mod quantized;
mod reload;
mod request_ids;
mod secrecy;
mod streaming;
mod tei;
mod traces;
