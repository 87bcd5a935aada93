//! The auth interceptor: if tokens are configured, only calls that carry one of them reach a service, and the token
//! identifies their caller.

use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::tokens::Tokens;

const AUTHORIZATION: &str = "authorization";

/// Accepts every call if no tokens are configured.
#[derive(Debug, Clone)]
pub(super) struct AuthInterceptor(pub(super) Option<Tokens>);

impl AuthInterceptor {
    pub(super) fn protect<S>(&self, service: S) -> InterceptedService<S, Self> {
        InterceptedService::new(service, self.clone())
    }
}

impl Interceptor for AuthInterceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some(tokens) = &self.0 else { return Ok(request) };
        // Removed from the request: no handler needs the token, and none can leak it.
        let value = request.metadata_mut().remove(AUTHORIZATION);
        let authorization = value.as_ref().map(|value| value.to_str().unwrap_or_default());
        match tokens.admit(authorization) {
            Ok(caller) => {
                caller.enter(request.extensions_mut());
                Ok(request)
            }
            Err(refusal) => Err(Status::unauthenticated(refusal.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
