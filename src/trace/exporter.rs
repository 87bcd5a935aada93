//! Export to the collector: sampling, a bounded queue, batches, and logging of failures.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use http::uri::Scheme;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter as Export};

use super::{Attribute, Sampling};

/// The minimum time between warnings about an unavailable collector.
const WARNING_INTERVAL: Duration = Duration::from_secs(600);

/// The exporter cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("spans cannot be sent (--otlp-endpoint): {0}")]
pub(crate) struct TraceError(#[from] ExporterBuildError);

/// The pipeline from finished spans to the collector. The SDK's variables `OTEL_BSP_*` set the size of its queue and
/// batches, and the time between batches.
pub(super) fn provider(collector: &Uri, sampling: Sampling) -> Result<SdkTracerProvider, TraceError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(collector.to_string());
    let exporter = if collector.scheme() == Some(&Scheme::HTTPS) {
        exporter.with_tls_config(ClientTlsConfig::new().with_native_roots())
    } else {
        exporter
    };
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(LoggingExporter { exporter: exporter.build()?, last_warning: Mutex::new(None) })
        .with_sampler(sampling)
        .with_resource(resource())
        .build())
}

/// `OTEL_RESOURCE_ATTRIBUTES` adds attributes and overrides these.
fn resource() -> Resource {
    Resource::builder_empty()
        .with_attributes([
            Attribute::new("service.name", env!("CARGO_PKG_NAME")),
            Attribute::new("service.version", env!("CARGO_PKG_VERSION")),
            Attribute::new("service.instance.id", format!("{:032x}", fastrand::u128(..))),
        ])
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
        .build()
}

/// Logs failed exports, at most one per [`WARNING_INTERVAL`].
#[derive(Debug)]
struct LoggingExporter {
    exporter: SpanExporter,
    last_warning: Mutex<Option<Instant>>,
}

impl LoggingExporter {
    fn warn(&self, spans: usize, error: &OTelSdkError) {
        let mut last_warning = self.last_warning.lock().unwrap_or_else(PoisonError::into_inner);
        if last_warning.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL) {
            *last_warning = Some(Instant::now());
            tracing::warn!(spans, %error, "spans cannot be sent; requests are served as usual");
        }
    }
}

impl Export for LoggingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        if let Err(error) = &sent {
            self.warn(spans, error);
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
