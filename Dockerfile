# embedd in a container; deploy/README.md says how to build and run it.
#
#   docker build -t embedd .                     with all-mpnet-base-v2, converted and verified during the build
#   docker build -t embedd --target server .     without a model: mount a bundle at /bundle
#   docker build -t embedd-cuda --target cuda .  for NVIDIA GPUs, with the same model in float16; `cuda-server`: without
#
# Several public projects pin the same tags with these digests. If a digest does not exist, the pull fails.
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-slim-trixie@sha256:e14e87345b4d5964ddcc3491d27ee046a0f23820f340c3c1e24da6880141f7c0
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot@sha256:e792ab3d241a468a4fd7519ddbbebe66b49b5f365771716ea688ad40b6c6f1c2

# The program. Line tables are stripped; backtraces still show function names.
FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release \
    && mkdir -p /out \
    && strip --strip-debug -o /out/embedd target/release/embedd

# ONNX Runtime, downloaded by pip and verified by embedd against a pinned sha256.
FROM ${BUILD_IMAGE} AS fetch
# Package versions are not pinned, because the archive removes old ones when the suite is updated.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/embedd /usr/local/bin/embedd
ENV EMBEDD_HOME=/var/lib/embedd
RUN embedd fetch --no-model && embedd fetch --no-model --verify --offline

# The runtime image: glibc, libstdc++ (for ONNX Runtime) and CA certificates; no shell.
FROM ${RUNTIME_IMAGE} AS server
LABEL org.opencontainers.image.title="embedd" \
      org.opencontainers.image.description="Text embeddings on CPUs over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /usr/share/doc/embedd/LICENSE
COPY --from=fetch /var/lib/embedd/onnxruntime /var/lib/embedd/onnxruntime
COPY --from=build /out/embedd /usr/local/bin/embedd
# The server fetches nothing and writes only its admin token, to /dev/shm: the root file system can be read-only, and no
# network is needed.
ENV EMBEDD_HOME=/var/lib/embedd \
    EMBEDD_OFFLINE=true \
    EMBEDD_BUNDLE=/bundle
USER 65532:65532
# gRPC, and HTTP for metrics. The admin service listens on loopback.
EXPOSE 50051 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/usr/local/bin/embedd", "health"]
ENTRYPOINT ["/usr/local/bin/embedd"]
CMD ["serve"]

# The bundle. The build fails if any text is below the accuracy gate of 0.99.
FROM fetch AS convert
ARG MODEL=sentence-transformers/all-mpnet-base-v2
# Files of the bundle to leave out of the image. The float32 model is the largest file, and is needed only for
# `--engine fp32` and for CPUs without AVX2; `--build-arg DROP=` keeps it.
ARG DROP=model.onnx
WORKDIR /
RUN embedd convert --model "${MODEL}" --no-report --output /bundle \
    && for file in ${DROP}; do rm "/bundle/${file}"; done

# ONNX Runtime for NVIDIA GPUs and NVIDIA's libraries (2.4 GB), downloaded and verified like the build for CPUs. In a
# folder of its own, because the images for GPUs already have the build for CPUs from the target `server`.
FROM fetch AS fetch-cuda
ENV EMBEDD_HOME=/var/lib/embedd-cuda \
    EMBEDD_DEVICE=cuda
RUN embedd fetch --no-model && embedd fetch --no-model --verify --offline

# The same runtime image. Of the system, CUDA needs only the driver (580 or later), which NVIDIA's container toolkit mounts
# into containers that have a GPU. It reads the NVIDIA variables; Kubernetes' device plugin sets the first one.
FROM server AS cuda-server
LABEL org.opencontainers.image.description="Text embeddings on NVIDIA GPUs over gRPC"
COPY --from=fetch-cuda /var/lib/embedd-cuda/onnxruntime /var/lib/embedd/onnxruntime
ENV EMBEDD_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# The libraries take longer to load than the model.
HEALTHCHECK --interval=10s --timeout=6s --start-period=300s --retries=3 CMD ["/usr/local/bin/embedd", "health"]

# The bundle with the engine `fp16`. The build needs no GPU: the accuracy gate runs on the CPU, and the server compares the
# engine with the reference again, on the GPU, before it accepts requests.
FROM fetch-cuda AS convert-cuda
ARG MODEL=sentence-transformers/all-mpnet-base-v2
# The float32 model is needed only for `--engine fp32`; `--build-arg DROP=` keeps it.
ARG DROP=model.onnx
WORKDIR /
RUN embedd convert --model "${MODEL}" --no-report --output /bundle \
    && for file in ${DROP}; do rm "/bundle/${file}"; done

FROM cuda-server AS cuda
COPY --from=convert-cuda /bundle /bundle

# Last, because it is the default target.
FROM server AS embedd
COPY --from=convert /bundle /bundle
