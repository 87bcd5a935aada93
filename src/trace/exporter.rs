//! The way to the collector: sampling, a bounded queue, batches, and what is told of failures.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use http::uri::Scheme;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter as Export};

use super::{Attribute, Ratio};

/// A collector that is away is told of so often.
const AGAIN: Duration = Duration::from_secs(600);

/// Spans cannot be sent to the collector that is named.
#[derive(Debug, thiserror::Error)]
#[error("spans cannot be sent (--otlp-endpoint): {0}")]
pub(crate) struct TraceError(#[from] ExporterBuildError);

/// Everything between a span's end and the collector. The size of the queue, of batches and the time between them are the
/// SDK's, with its variables `OTEL_BSP_*`.
pub(super) fn provider(collector: &Uri, ratio: Ratio) -> Result<SdkTracerProvider, TraceError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(collector.to_string());
    let exporter = if collector.scheme() == Some(&Scheme::HTTPS) {
        exporter.with_tls_config(ClientTlsConfig::new().with_native_roots())
    } else {
        exporter
    };
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio.get())));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(Telling { exporter: exporter.build()?, told: Mutex::new(None) })
        .with_sampler(sampler)
        .with_resource(resource())
        .build())
}

/// What `OTEL_RESOURCE_ATTRIBUTES` says outdoes what is known here.
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

/// Tells of spans that could not be sent, now and then.
#[derive(Debug)]
struct Telling {
    exporter: SpanExporter,
    told: Mutex<Option<Instant>>,
}

impl Telling {
    fn tell(&self, spans: usize, error: &OTelSdkError) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= AGAIN) {
            *told = Some(Instant::now());
            tracing::warn!(spans, %error, "spans cannot be sent; requests are served as ever");
        }
    }
}

impl Export for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        if let Err(error) = &sent {
            self.tell(spans, error);
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
