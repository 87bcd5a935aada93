//! The layers around every gRPC service.

use tonic::service::Routes;
use tower::Layer as _;

use super::deadline::{DeadlineLayer, DeadlineService};
use super::observe::{ObserveLayer, ObserveService};
use super::receive::{ReceiveLayer, ReceiveService};
use crate::stats::Stats;
use crate::trace::Traces;

/// The services of a listener, with their layers from the outermost to the innermost.
pub(super) type Services = ObserveService<DeadlineService<ReceiveService<Routes>>>;

/// `max_bytes` is the maximum size of a compressed message, before and after it is decompressed.
pub(super) fn with_layers(routes: Routes, max_bytes: usize, stats: Stats, traces: Traces) -> Services {
    let routes = ReceiveLayer { max_bytes }.layer(routes.prepare());
    ObserveLayer { stats, traces }.layer(DeadlineLayer.layer(routes))
}
