//! Setup from the settings that commands share.

use crate::config::{Configuration, Settings};
use crate::logging::{self, ServerLog};
use crate::prepare::{Preparation, PrepareError};
use embedd_common::progress::Progress;

pub(super) fn start_logging(configuration: &Configuration) -> anyhow::Result<()> {
    let Settings { log_format, log_level, .. } = &configuration.settings;
    Ok(logging::init(*log_format, log_level)?)
}

pub(super) fn start_server_log(configuration: &Configuration) -> anyhow::Result<ServerLog> {
    let Settings { log_format, log_level, .. } = &configuration.settings;
    Ok(logging::init_server(*log_format, log_level)?)
}

/// Progress is shown on the terminal.
pub(super) fn preparation(configuration: &Configuration) -> Result<Preparation, PrepareError> {
    Preparation::new(&configuration.settings, Progress::auto())
}
