//! Turns text into typed settings and reports every mistake at once.
//!
//! A setting has one entry in [`TABLE`]; its flag, environment variable and TOML key are derived from the entry's name.
//! Flags override variables, variables override the file, and the file overrides defaults. Only [`Configuration::load`]
//! reads the environment of the process.

mod check;
mod choices;
mod configuration;
mod docs;
mod environment;
mod error;
mod file;
mod files;
mod log_filter;
mod parse;
mod reader;
mod render;
mod resolve;
mod setting;
mod sources;
mod suggest;
mod table;

pub use choices::{EngineChoice, HttpApiChoice, LogFormat, TraceParentChoice};
pub use configuration::Configuration;
pub use docs::markdown;
pub use environment::OTHER_VARIABLES;
pub use error::{ConfigErrors, Given, Mistake, Origin};
pub use files::{AdminTokenFile, BundleRoots};
pub use log_filter::{InvalidLogFilter, LogFilter};
pub use parse::{count as parse_count, duration as parse_duration};
pub use setting::{Group, Kind, Setting};
pub use sources::{Flags, Sources};
pub use table::{Settings, TABLE, by_key};
