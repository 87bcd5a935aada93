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

pub(super) fn with_layers(routes: Routes, stats: Stats, traces: Traces) -> Services {
    let routes = ReceiveLayer.layer(routes.prepare());
    ObserveLayer { stats, traces }.layer(DeadlineLayer.layer(routes))
}
