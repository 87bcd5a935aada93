//! `inference.GRPCInferenceService`: the Open Inference Protocol (v2) of KServe and Triton.

use tonic::{Request, Response, Status};

use super::calls::Calls;
use super::health::Health;
use super::status;
use crate::caller::Caller;
use crate::embed::Embedder;
use crate::open_inference;
use crate::trace::Span;
use embedd_proto::open_inference as proto;
use embedd_proto::open_inference::grpc_inference_service_server::GrpcInferenceService;

#[derive(Debug, Clone)]
pub(super) struct OpenInference {
    pub(super) calls: Calls,
    pub(super) health: Health,
}

impl OpenInference {
    async fn infer(
        &self,
        request: proto::ModelInferRequest,
        caller: &Caller,
        call: &Span,
    ) -> Result<proto::ModelInferResponse, Status> {
        let embedder = self.calls.embedder()?;
        check_model(&request.model_name, &request.model_version, &embedder)?;
        let name = request.model_name.clone();
        let id = request.id.clone();
        let valid = open_inference::infer(request, embedder.model(), embedder.limits());
        let (request, form) = valid.map_err(|violations| status::invalid(&violations))?.split(false);
        let embedded = self.calls.embed(&embedder, request, open_inference::TEXT, caller, call).await?;
        Ok(open_inference::inferred(&embedded, &form, name, id))
    }

    fn is_ready(&self, request: &proto::ModelReadyRequest) -> Result<bool, Status> {
        // While the model is being loaded, its name is unknown.
        let Some(embedder) = self.calls.serving.model.get() else { return Ok(false) };
        check_model(&request.name, &request.version, &embedder)?;
        Ok(self.health.is_serving())
    }

    fn describe(&self, request: &proto::ModelMetadataRequest) -> Result<proto::ModelMetadataResponse, Status> {
        let embedder = self.calls.embedder()?;
        check_model(&request.name, &request.version, &embedder)?;
        Ok(open_inference::metadata(&embedder))
    }
}

fn check_model(name: &str, version: &str, embedder: &Embedder) -> Result<(), Status> {
    open_inference::check_model(name, version, embedder).map_err(|message| status::not_found(&message))
}

#[tonic::async_trait]
impl GrpcInferenceService for OpenInference {
    async fn server_live(
        &self,
        _: Request<proto::ServerLiveRequest>,
    ) -> Result<Response<proto::ServerLiveResponse>, Status> {
        Ok(Response::new(proto::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<proto::ServerReadyRequest>,
    ) -> Result<Response<proto::ServerReadyResponse>, Status> {
        Ok(Response::new(proto::ServerReadyResponse { ready: self.health.is_serving() }))
    }

    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Result<Response<proto::ModelReadyResponse>, Status> {
        self.is_ready(&request.into_inner()).map(|ready| Response::new(proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<proto::ServerMetadataRequest>,
    ) -> Result<Response<proto::ServerMetadataResponse>, Status> {
        Ok(Response::new(open_inference::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Result<Response<proto::ModelMetadataResponse>, Status> {
        self.describe(&request.into_inner()).map(Response::new)
    }

    async fn model_infer(
        &self,
        request: Request<proto::ModelInferRequest>,
    ) -> Result<Response<proto::ModelInferResponse>, Status> {
        let call = Span::of(request.extensions());
        let caller = self.calls.caller(&request)?;
        self.infer(request.into_inner(), &caller, &call).await.map(Response::new)
    }
}
