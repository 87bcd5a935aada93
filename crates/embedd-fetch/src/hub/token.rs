//! The access token of the hub: that of the caller, or else that of `hf auth login`.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::{HubError, HubSettings};
use embedd_common::files::read_bounded;
use embedd_common::progress::Progress;

/// Tokens have some forty bytes; those of OAuth up to some thousand.
const MAX_BYTES: u64 = 64 << 10;
/// The name in errors of a token that the caller has given.
const GIVEN: &str = "HF_TOKEN";

/// A secret that is never printed.
#[derive(Clone)]
pub(crate) struct Token {
    secret: String,
    /// The variable or the file that it is from.
    pub(super) from: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// A token that the caller has given; `None` if it is blank.
    pub(crate) fn given(text: &str) -> Option<Self> {
        Self::of(text, GIVEN.to_owned())
    }

    /// Removes what huggingface_hub removes.
    fn of(text: &str, from: String) -> Option<Self> {
        let secret = text.replace(['\r', '\n'], "").trim().to_owned();
        (!secret.is_empty()).then_some(Self { secret, from })
    }

    /// The value of the header `Authorization`.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.secret)
    }
}

/// The file to which `hf auth login` writes the token, as huggingface_hub finds it. `variable` returns variables of the
/// environment that are not empty.
pub(crate) fn login_file(variable: impl Fn(&str) -> Option<OsString>, user_home: Option<&Path>) -> Option<PathBuf> {
    let path = |name: &str| {
        let path = PathBuf::from(variable(name)?);
        match path.strip_prefix("~") {
            Ok(below) => user_home.map(|home| home.join(below)),
            Err(_) => Some(path),
        }
    };
    path("HF_TOKEN_PATH").or_else(|| {
        let cache = || path("XDG_CACHE_HOME").or_else(|| Some(user_home?.join(".cache")));
        let home = path("HF_HOME").or_else(|| Some(cache()?.join("huggingface")))?;
        Some(home.join("token"))
    })
}

/// The token to send, if there is one. A file that cannot be read is not fatal: most models need no token.
pub(super) fn resolve(settings: &HubSettings, progress: &Progress) -> Result<Option<Token>, HubError> {
    let from_file = || {
        let path = settings.token_file.as_deref()?;
        match read_bounded(path, MAX_BYTES) {
            Ok(contents) => Token::of(&String::from_utf8_lossy(&contents), path.display().to_string()),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    let path = path.display();
                    progress.note(&format!("cannot read the access token in {path}: {error}; continuing without it"));
                }
                None
            }
        }
    };
    let Some(token) = settings.token.clone().or_else(from_file) else { return Ok(None) };
    if token.secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(token));
    }
    Err(HubError::Token { from: token.from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_login_is_found_as_in_python() {
        let found = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let set = variables.iter().find(|(known, _)| *known == name)?;
                Some(set.1.into())
            };
            login_file(variable, Some(Path::new("/home/me"))).expect("a path")
        };
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[], "/home/me/.cache/huggingface/token"),
            (&[("XDG_CACHE_HOME", "/cache")], "/cache/huggingface/token"),
            (&[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/cache")], "/hf/token"),
            (&[("HF_HOME", "~/hf")], "/home/me/hf/token"),
            (&[("HF_TOKEN_PATH", "/secrets/hub"), ("HF_HOME", "/hf")], "/secrets/hub"),
            (&[("HF_TOKEN_PATH", "~/hub")], "/home/me/hub"),
        ];
        for (variables, expected) in cases {
            assert_eq!(found(variables), Path::new(expected), "{variables:?}");
        }
        assert_eq!(login_file(|_| None, None), None, "a user without a home folder");
    }

    #[test]
    fn line_breaks_and_blanks_are_removed() {
        for text in ["secret", " secret\n", "sec\r\nret\r\n", "\tsecret "] {
            assert_eq!(Token::given(text).expect("a token").header(), "Bearer secret", "{text:?}");
        }
        assert!(["", " ", "\n"].iter().all(|text| Token::given(text).is_none()));
    }
}
