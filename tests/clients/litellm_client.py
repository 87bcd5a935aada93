"""LiteLLM, which calls three of the APIs."""

import asyncio

import litellm

from clients.suite import MODEL, TEXTS, Client, expect, raises, same_bits, version_of

VERSION = version_of("litellm")
OPENAI = Client(
    "litellm, openai/",
    VERSION,
    """
from litellm import embedding
reply = embedding("openai/all-mpnet-base-v2", ["hello", "naïve"], api_base="http://localhost:9090/v1", api_key="none")
vectors = [item["embedding"] for item in reply.data]
""",
)
HUGGING_FACE = Client(
    "litellm, huggingface/",
    VERSION,
    """
from litellm import embedding
server = {"api_base": "http://localhost:9090/embed", "input_type": "embed"}  # without input_type, it asks the hub
reply = embedding("huggingface/all-mpnet-base-v2", ["hello", "naïve"], **server)
vectors = [item["embedding"] for item in reply.data]
""",
)
COHERE = Client(
    "litellm, cohere/",
    VERSION,
    """
from litellm import embedding
server = {"api_base": "http://localhost:9090/v2/embed", "api_key": "none"}
vectors = [item["embedding"] for item in embedding("cohere/all-mpnet-base-v2", ["hello", "naïve"], **server).data]
""",
)
CLIENTS = [OPENAI, HUGGING_FACE, COHERE]


def vectors(reply):
    return [item["embedding"] for item in reply.data]


def register(client, provider, path, **options):
    def arguments(server):
        options_of_server = {"api_base": server.url + path, "api_key": server.token or "none", **options}
        return {"model": f"{provider}/{MODEL}", "input": TEXTS, **options_of_server}

    client.check_lines()

    @client.check("embedding")
    def synchronous(servers):
        same_bits(vectors(litellm.embedding(**arguments(servers.open))), servers.open.truth(TEXTS))

    @client.check("aembedding")
    def asynchronous(servers):
        same_bits(vectors(asyncio.run(litellm.aembedding(**arguments(servers.open)))), servers.open.truth(TEXTS))

    @client.check("embedding with a token, over TLS")
    def token(servers):
        same_bits(vectors(litellm.embedding(**arguments(servers.secured))), servers.secured.truth(TEXTS))

    @client.check("embedding with a wrong token", "AuthenticationError, 401")
    def wrong_token(servers):
        call = {**arguments(servers.secured), "api_key": "wrong", "max_retries": 0}
        error = raises(litellm.AuthenticationError, lambda: litellm.embedding(**call))
        expect(error.status_code == 401, str(error))


register(OPENAI, "openai", "/v1")
register(HUGGING_FACE, "huggingface", "/embed", input_type="embed")
register(COHERE, "cohere", "/v2/embed")


@OPENAI.check("embedding(dimensions=7)")
def dimensions(servers):
    options = {"api_base": f"{servers.open.url}/v1", "api_key": "none", "allowed_openai_params": ["dimensions"]}
    reply = litellm.embedding(f"openai/{MODEL}", TEXTS, dimensions=7, **options)
    same_bits(vectors(reply), servers.open.truth(TEXTS, dimensions=7))


@HUGGING_FACE.check("embedding, the server's root as api_base")
def root(servers):
    options = {"api_base": servers.open.url, "input_type": "embed"}
    same_bits(vectors(litellm.embedding(f"huggingface/{MODEL}", TEXTS, **options)), servers.open.truth(TEXTS))
