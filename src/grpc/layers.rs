//! The layers around every gRPC service.

use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};

use super::deadline::DeadlineLayer;
use super::observe::ObserveLayer;

/// The layers from the innermost to the outermost.
pub(super) type Layers = Stack<DeadlineLayer, Stack<ObserveLayer, Identity>>;
/// The services of a listener, with their layers.
pub(super) type Services = Router<Layers>;
