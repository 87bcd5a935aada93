//! Text embeddings on CPUs: sentence-transformers models converted to ONNX, proven, and served over gRPC.
//!
//! `docs/ARCHITECTURE.md` says how the parts depend on each other. In reading order:
//!
//! * the frame: [`cli`], [`commands`], [`config`], [`logging`], [`app`], [`prepare`];
//! * the request path, top to bottom: [`grpc`] and [`http`], [`admin`], [`serving`], [`model_slot`], [`embed`],
//!   [`request`], [`cache`], [`tokenize`], [`batch`], [`engine`], and what it tells of itself: [`stats`],
//!   [`readiness`], [`metrics`];
//! * the conversion path: [`convert`];
//! * the arithmetic of the native engine: [`kernels`];
//! * how programs call a server, this one among them, and what it finds when it does so under load: [`client`],
//!   [`load_test`];
//! * who may come in, and how files are followed: [`tokens`], [`mod@reload`];
//! * what both share: [`bundle`], [`accuracy`], [`fetch`], [`home`], [`model_ref`], [`mod@reference`], [`checksum`],
//!   [`lock`], [`threads`], [`progress`], [`accept`], [`codes`], [`process`], [`mod@page`], and the generated [`proto`]
//!   and [`onnx`].

pub mod accept;
pub mod accuracy;
pub mod admin;
pub mod app;
pub mod batch;
pub mod bundle;
pub mod cache;
pub mod checksum;
pub mod cli;
pub mod client;
pub mod codes;
pub mod commands;
pub mod config;
pub mod convert;
pub mod embed;
pub mod engine;
pub mod fetch;
pub mod grpc;
pub mod home;
pub mod http;
pub mod kernels;
pub mod load_test;
pub mod lock;
pub mod logging;
pub mod metrics;
pub mod model_ref;
pub mod model_slot;
pub mod onnx;
pub mod page;
pub mod prepare;
pub mod process;
pub mod progress;
pub mod proto;
pub mod readiness;
pub mod reference;
pub mod reload;
pub mod request;
pub mod serving;
pub mod stats;
pub mod threads;
pub mod tokenize;
pub mod tokens;
