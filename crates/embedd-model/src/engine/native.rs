//! The native INT8 engine: ONNX Runtime runs a graph whose encoder is embedd's custom operator. All sessions share one
//! copy of the weights.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ort::environment::Environment;

use super::external_data::check_self_contained;
use super::{LoadError, Session, SessionOptions};
use crate::bundle::{Bundle, BundleError, Variant};
use crate::native::NativeWeights;
use embedd_common::checksum::Sha256Hex;
use embedd_common::files::open_regular;
use embedd_kernels::{Kernels, PageBuffer};

mod operator;
mod session;
mod workers;

use operator::Shared;
use session::NativeSession;

/// A native model's files in memory.
#[derive(Debug)]
pub(super) struct NativeModel {
    graph: Vec<u8>,
    graph_path: PathBuf,
    weights: Arc<NativeWeights>,
}

impl NativeModel {
    /// Reads a bundle's native model. Each file is read once; its length and checksum are verified while reading.
    ///
    /// # Errors
    /// [`LoadError::Bundle`] or [`LoadError::Weights`].
    pub(super) fn of_bundle(bundle: &Bundle) -> Result<Self, LoadError> {
        let record = bundle.model(Variant::Native)?;
        // The manifest's check ensures that there is one.
        let weights_file = record.weights.as_deref().unwrap_or_default();
        let started = Instant::now();
        let weights = bundle.read(weights_file, PageBuffer::zeroed)?;
        tracing::debug!(bytes = weights.len(), elapsed = ?started.elapsed(), "native weights read and verified");
        let graph = bundle.read_small(&record.file)?;
        let graph_path = bundle.folder().join(&record.file);
        check_self_contained(&graph, &graph_path)?;
        Self::new(graph, graph_path, weights, &bundle.folder().join(weights_file))
    }

    /// Reads a native model from files outside a bundle.
    ///
    /// # Errors
    /// [`LoadError::Bundle`] if a file cannot be read, or [`LoadError::Weights`].
    pub(super) fn of_files(graph_path: &Path, weights_path: &Path) -> Result<Self, LoadError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LoadError::Bundle(BundleError::Io { path, source })
        };
        let graph = std::fs::read(graph_path).map_err(failed(graph_path))?;
        let weights = read(weights_path).map_err(failed(weights_path))?;
        Self::new(graph, graph_path.to_owned(), weights, weights_path)
    }

    fn new(graph: Vec<u8>, graph_path: PathBuf, weights: PageBuffer, weights_path: &Path) -> Result<Self, LoadError> {
        let weights = NativeWeights::parse(weights)
            .map_err(|error| LoadError::Weights { path: weights_path.to_owned(), reason: error.to_string() })?;
        Ok(Self { graph, graph_path, weights: Arc::new(weights) })
    }

    /// Creates a session, which shares the weights with the other sessions.
    ///
    /// # Errors
    /// [`LoadError::Model`].
    pub(super) fn session(
        &self,
        environment: &Environment,
        kernels: Kernels,
        options: SessionOptions,
    ) -> Result<Box<dyn Session>, LoadError> {
        let started = Instant::now();
        let shared = Shared { weights: Arc::clone(&self.weights), kernels, threads: options.threads };
        let session = NativeSession::load(environment, &self.graph, &shared)
            .map_err(|error| LoadError::Model { path: self.graph_path.clone(), reason: error.to_string() })?;
        tracing::debug!(elapsed = ?started.elapsed(), "native session loaded");
        Ok(Box::new(session))
    }
}

fn read(path: &Path) -> io::Result<PageBuffer> {
    let file = open_regular(path)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut buffer = PageBuffer::zeroed(length)?;
    // The digest is not needed here, but costs little.
    Sha256Hex::of_filling(&mut buffer, file)?;
    Ok(buffer)
}
