//! Which calls pass to a service: those that carry a token, where tokens are needed.

use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::tokens::Tokens;

const AUTHORIZATION: &str = "authorization";

/// Lets calls pass that carry one of the tokens, and all calls where there are none.
#[derive(Debug, Clone)]
pub(super) struct Guard(pub(super) Option<Tokens>);

impl Guard {
    /// The service, with this in front of it.
    pub(super) fn before<S>(&self, service: S) -> InterceptedService<S, Self> {
        InterceptedService::new(service, self.clone())
    }
}

impl Interceptor for Guard {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some(tokens) = &self.0 else { return Ok(request) };
        // Out of the request: nothing behind this needs the token, nor can tell it.
        let value = request.metadata_mut().remove(AUTHORIZATION);
        let authorization = value.as_ref().map(|value| value.to_str().unwrap_or_default());
        match tokens.admit(authorization) {
            Ok(()) => Ok(request),
            Err(refusal) => Err(Status::unauthenticated(refusal.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
