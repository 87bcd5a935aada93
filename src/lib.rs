//! The server and the command line of embedd. `docs/ARCHITECTURE.md` shows how the parts depend on each other.

pub mod cli;
pub mod commands;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod prepare;

mod admin;
mod admin_token;
mod app;
mod batch;
mod blocking;
mod cache;
mod caller;
mod cors_origins;
mod embed;
mod encoding;
mod failure;
mod grpc;
mod http;
mod input_type;
mod logging;
mod metrics;
mod model_names;
mod model_slot;
mod net;
mod open_inference;
mod quota;
mod readiness;
mod reload;
mod request;
mod serving;
mod stats;
mod tokens;
mod trace;
