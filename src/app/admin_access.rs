//! Who may call the admin service: holders of a token from a file, or of the one that the server generates.

use super::error::AppError;
use crate::admin_token;
use crate::config::{AdminTokenFile, Settings};
use crate::reload::NamedFile;
use crate::tokens::Tokens;

/// Stores the generated token, if the settings ask for one. If that is impossible, the admin service is turned off: other
/// users of the machine could call it without a token.
pub(super) fn prepare(settings: &mut Settings) {
    if settings.admin_listen.is_none() || !generates(settings) {
        return;
    }
    match admin_token::find_or_create(settings.home.clone()) {
        Ok(found) => {
            let path = found.path.display();
            tracing::info!(admin_token_file = %path, "the admin service requires the token in this file");
        }
        Err(error) => {
            settings.admin_listen = None;
            tracing::warn!("the admin service is off: {error}");
        }
    }
}

/// The tokens of the admin service; `None` if it needs none.
///
/// # Errors
/// The tokens cannot be read.
pub(super) fn tokens(settings: &Settings) -> Result<Option<Tokens>, AppError> {
    match &settings.admin_token_file {
        AdminTokenFile::File(path) => {
            let file = NamedFile { path: path.clone(), flag: "--admin-token-file" };
            Ok(Some(Tokens::open(file)?))
        }
        AdminTokenFile::Auto if generates(settings) => {
            let generated = admin_token::find_or_create(settings.home.clone())?;
            Ok(Some(Tokens::fixed(&generated.token)?))
        }
        AdminTokenFile::Auto | AdminTokenFile::None => Ok(None),
    }
}

/// Client certificates already authenticate callers.
fn generates(settings: &Settings) -> bool {
    settings.admin_token_file == AdminTokenFile::Auto && settings.admin_tls_client_ca.is_none()
}
