//! `embedd.v1.AdminService`.

use tonic::{Request, Response, Status};

use crate::proto;
use crate::proto::admin_service_server::AdminService;

/// None of its methods is built yet: each answers UNIMPLEMENTED.
#[derive(Debug)]
pub(super) struct Admin;

fn not_yet(method: &str) -> Status {
    Status::unimplemented(format!("{method} is not built yet"))
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn validate(&self, _: Request<proto::ValidateRequest>) -> Result<Response<proto::ValidateResponse>, Status> {
        Err(not_yet("Validate"))
    }

    type BenchmarkStream = tokio_stream::Empty<Result<proto::BenchmarkResponse, Status>>;

    async fn benchmark(&self, _: Request<proto::BenchmarkRequest>) -> Result<Response<Self::BenchmarkStream>, Status> {
        Err(not_yet("Benchmark"))
    }

    async fn get_stats(&self, _: Request<proto::GetStatsRequest>) -> Result<Response<proto::GetStatsResponse>, Status> {
        Err(not_yet("GetStats"))
    }

    async fn clear_cache(
        &self,
        _: Request<proto::ClearCacheRequest>,
    ) -> Result<Response<proto::ClearCacheResponse>, Status> {
        Err(not_yet("ClearCache"))
    }

    async fn reload_model(
        &self,
        _: Request<proto::ReloadModelRequest>,
    ) -> Result<Response<proto::ReloadModelResponse>, Status> {
        Err(not_yet("ReloadModel"))
    }
}
