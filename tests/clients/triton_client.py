"""Triton's clients, over gRPC and HTTP, also as clients of NVIDIA NIM use them."""

import functools
import queue

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from clients.suite import MODEL, TEXTS, Client, expect, raises, same_bits, version_of

GRPC = Client(
    "tritonclient.grpc",
    version_of("tritonclient"),
    """
import numpy as np, tritonclient.grpc as triton
text = triton.InferInput("text", [2], "BYTES")
text.set_data_from_numpy(np.array([b"hello", "naïve".encode()], np.object_))
vectors = triton.InferenceServerClient("localhost:50051").infer("all-mpnet-base-v2", [text]).as_numpy("embedding")
""",
)
HTTP = Client(
    "tritonclient.http",
    version_of("tritonclient"),
    """
import numpy as np, tritonclient.http as triton
text = triton.InferInput("text", [2], "BYTES")
text.set_data_from_numpy(np.array([b"hello", "naïve".encode()], np.object_))
vectors = triton.InferenceServerClient("localhost:9090").infer("all-mpnet-base-v2", [text]).as_numpy("embedding")
""",
)
CLIENTS = [GRPC, HTTP]


def tensor(triton, texts=TEXTS, **options):
    found = triton.InferInput("text", [len(texts)], "BYTES")
    found.set_data_from_numpy(np.array([text.encode() for text in texts], np.object_), **options)
    return found


def infer(triton, address, texts=TEXTS, output="embedding", output_options=None, data_options=None, **options):
    outputs = [triton.InferRequestedOutput(output, **(output_options or {}))] if output else None
    with triton.InferenceServerClient(address) as client:
        inputs = [tensor(triton, texts, **(data_options or {}))]
        return client.infer(MODEL, inputs, outputs=outputs, **options)


def grpc(servers, **options):
    return infer(tritonclient.grpc, servers.open.grpc, client_timeout=30, **options)


def http(servers, **options):
    return infer(tritonclient.http, servers.open.http, **options)


def register(client, triton, call, address):
    client.check_lines()

    @client.check("infer, the outputs `embeddings` and `token_count`, input_type and truncate (as NIM's clients)")
    def nim(servers):
        outputs = [triton.InferRequestedOutput(name) for name in ("embeddings", "token_count")]
        parameters = {"input_type": "query", "truncate": "END"}
        with triton.InferenceServerClient(address(servers)) as connection:
            found = connection.infer(MODEL, [tensor(triton)], outputs=outputs, parameters=parameters)
        same_bits(found.as_numpy("embeddings"), servers.open.truth(TEXTS))
        counts = found.as_numpy("token_count").reshape(-1)
        expect(len(counts) == len(TEXTS) and counts.min() > 2, f"token counts {counts}")

    @client.check("infer, no output named")
    def no_output(servers):
        same_bits(call(servers, output=None).as_numpy("embedding"), servers.open.truth(TEXTS))

    @client.check("infer(parameters={dimensions, normalize})")
    def parameters(servers):
        found = call(servers, parameters={"dimensions": 7, "normalize": False})
        same_bits(found.as_numpy("embedding"), servers.open.truth(TEXTS, dimensions=7, normalize=False))

    @client.check("infer with a token, over TLS")
    def token(servers):
        headers = {"authorization": f"Bearer {servers.secured.token}"}
        if triton is tritonclient.grpc:
            connect = functools.partial(
                triton.InferenceServerClient, servers.secured.grpc, ssl=True, root_certificates=servers.secured.ca
            )
        else:
            options = {"ca_certs": servers.secured.ca}
            connect = functools.partial(
                triton.InferenceServerClient, servers.secured.http, ssl=True, ssl_options=options
            )
        with connect() as connection:
            found = connection.infer(MODEL, [tensor(triton)], headers=headers)
        same_bits(found.as_numpy("embedding"), servers.secured.truth(TEXTS))

    @client.check("is_server_live, is_server_ready, is_model_ready, get_model_metadata", "the model and its tensors")
    def health(servers):
        with triton.InferenceServerClient(address(servers)) as connection:
            expect(connection.is_server_live() and connection.is_server_ready(), "the server is live and ready")
            expect(connection.is_model_ready(MODEL), "the model is ready")
            options = {"as_json": True} if triton is tritonclient.grpc else {}
            metadata = connection.get_model_metadata(MODEL, **options)
        expect([each["name"] for each in metadata["inputs"]] == ["text"], str(metadata))
        expect("embedding" in [each["name"] for each in metadata["outputs"]], str(metadata))

    @client.check("infer, another model", "an error that names the served one")
    def other_model(servers):
        with triton.InferenceServerClient(address(servers)) as connection:
            error = raises(InferenceServerException, lambda: connection.infer("other", [tensor(triton)]))
        expect(MODEL in error.message(), error.message())


register(GRPC, tritonclient.grpc, grpc, lambda servers: servers.open.grpc)


@GRPC.check('infer(compression_algorithm="gzip")')
def grpc_gzip(servers):
    texts = [f"{text} {number}" for number in range(16) for text in TEXTS]
    found = grpc(servers, texts=texts, compression_algorithm="gzip")
    same_bits(found.as_numpy("embedding"), servers.open.truth(texts))


@GRPC.check("async_infer")
def grpc_asynchronous(servers):
    done = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(servers.open.grpc) as client:
        client.async_infer(MODEL, [tensor(tritonclient.grpc)], callback=lambda result, error: done.put((result, error)))
        result, error = done.get(timeout=30)
    expect(error is None, str(error))
    same_bits(result.as_numpy("embedding"), servers.open.truth(TEXTS))


register(HTTP, tritonclient.http, http, lambda servers: servers.open.http)

JSON = {"output_options": {"binary_data": False}, "data_options": {"binary_data": False}}


@HTTP.check("infer, JSON both ways")
def http_json(servers):
    same_bits(http(servers, **JSON).as_numpy("embedding"), servers.open.truth(TEXTS))


@HTTP.check("infer, binary texts and JSON vectors")
def http_mixed(servers):
    found = http(servers, output_options={"binary_data": False})
    same_bits(found.as_numpy("embedding"), servers.open.truth(TEXTS))


@HTTP.check('infer(request_compression_algorithm="gzip", response_compression_algorithm="gzip")')
def http_gzip(servers):
    options = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"}
    texts = [f"{text} {number}" for number in range(200) for text in TEXTS]
    same_bits(http(servers, texts=texts, **options).as_numpy("embedding"), servers.open.truth(texts))
    same_bits(http(servers, **JSON, **options).as_numpy("embedding"), servers.open.truth(TEXTS))


@HTTP.check('infer(request_compression_algorithm="deflate")', "415, which names gzip")
def http_deflate(servers):
    error = raises(InferenceServerException, lambda: http(servers, request_compression_algorithm="deflate"))
    expect("gzip" in error.message(), error.message())
