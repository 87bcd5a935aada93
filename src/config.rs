//! Text to typed settings, every mistake told at once.
//!
//! A setting has one entry in [`TABLE`]; its flag, environment variable and TOML key are derived from the entry's name.
//! Flags outdo variables, variables outdo the file, the file outdoes defaults. Nothing in here reads the process's
//! environment but [`Configuration::load`].

mod check;
mod choices;
mod docs;
mod environment;
mod error;
mod file;
mod log_filter;
mod parse;
mod render;
mod resolve;
mod setting;
mod sources;
mod suggest;
mod table;

pub use choices::{EngineChoice, LogFormat, OpenAiChoice};
pub use docs::markdown;
pub use environment::OTHER_VARIABLES;
pub use error::{ConfigErrors, Given, Mistake, Origin};
pub use log_filter::{InvalidLogFilter, LogFilter};
pub use parse::duration as parse_duration;
pub use setting::{Group, Kind, Setting, by_key};
pub use sources::{Flags, Sources};
pub use table::{Settings, TABLE};

/// Settings, and where each of them comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The values.
    pub settings: Settings,
    /// The text and the origin of every setting, in the order of [`TABLE`].
    effective: Vec<Given>,
    /// What is no mistake and yet may surprise.
    notes: Vec<String>,
}
