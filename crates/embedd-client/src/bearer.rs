//! The token that opens a server.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::ConnectError;

/// Adds the token, where there is one, to every call.
#[derive(Debug, Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// White space around the token is not part of it.
    pub(super) fn new(token: &str) -> Result<Self, ConnectError> {
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConnectError::Token);
        }
        let mut value = MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| ConnectError::Token)?;
        // Nothing that prints a request prints it.
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
    fn a_token_goes_with_every_call_and_is_never_shown() {
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
