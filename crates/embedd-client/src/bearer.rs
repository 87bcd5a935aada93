//! Bearer tokens.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::ConnectError;

/// Adds the client's token, if it has one, to every call.
#[derive(Debug, Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Whitespace around the token is removed.
    pub(crate) fn new(token: &str) -> Result<Self, ConnectError> {
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConnectError::Token);
        }
        let mut value = MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| ConnectError::Token)?;
        // Keeps the token out of debug output.
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_with_every_call_and_never_printed() {
        let mut bearer = Bearer::new(" secret-1\n").expect("a token");
        let request = bearer.call(Request::new(())).expect("a request");
        assert_eq!(request.metadata().get("authorization").expect("a header"), "Bearer secret-1");
        assert!(!format!("{bearer:?}").contains("secret"), "{bearer:?}");
        assert!(Bearer::default().call(Request::new(())).expect("a request").metadata().is_empty());
        for wrong in ["", " \n", "two words", "ö"] {
            Bearer::new(wrong).expect_err(wrong);
        }
    }
}
