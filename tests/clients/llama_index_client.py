"""LlamaIndex's classes for text-embeddings-inference and OpenAI's API."""

import asyncio

from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

from clients.suite import DOCUMENTS, LINES_TEXTS, MODEL, TEXTS, Client, at_servers, same_bits, version_of

TEI = Client(
    "llama-index, TextEmbeddingsInference",
    version_of("llama-index-embeddings-text-embeddings-inference"),
    """
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
embedding = TextEmbeddingsInference(model_name="all-mpnet-base-v2", base_url="http://localhost:9090")
vectors = embedding.get_text_embedding_batch(["hello", "naïve"])
""",
)
LIKE = Client(
    "llama-index, OpenAILikeEmbedding",
    version_of("llama-index-embeddings-openai-like"),
    """
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
server = {"api_base": "http://localhost:9090/v1", "api_key": "none"}
embedding = OpenAILikeEmbedding(model_name="all-mpnet-base-v2", **server)
""",
)
OPENAI = Client(
    "llama-index, OpenAIEmbedding",
    version_of("llama-index-embeddings-openai"),
    """
from llama_index.embeddings.openai import OpenAIEmbedding
server = {"api_base": "http://localhost:9090/v1", "api_key": "none"}
embedding = OpenAIEmbedding(model_name="all-mpnet-base-v2", **server)
""",
)
CLIENTS = [TEI, LIKE, OPENAI]


def connect_tei(server):
    return TextEmbeddingsInference(model_name=MODEL, base_url=server.url, auth_token=server.token)


def connect_like(server):
    return OpenAILikeEmbedding(model_name=MODEL, api_base=f"{server.url}/v1", api_key=server.token or "none")


def connect_openai(server):
    return OpenAIEmbedding(model_name=MODEL, api_base=f"{server.url}/v1", api_key=server.token or "none")


def register(client, connect):
    @client.check("the lines above, get_text_embedding_batch")
    def lines(servers):
        variables = {}
        exec(at_servers(client.lines, servers), variables)
        found = variables["embedding"].get_text_embedding_batch(LINES_TEXTS)
        same_bits(found, servers.open.truth(LINES_TEXTS))

    @client.check("get_query_embedding")
    def query(servers):
        same_bits([connect(servers.open).get_query_embedding(TEXTS[1])], servers.open.truth(TEXTS[1:2]))

    @client.check(f"get_text_embedding_batch, {len(DOCUMENTS)} texts")
    def many(servers):
        found = connect(servers.open).get_text_embedding_batch(DOCUMENTS)
        same_bits(found, servers.open.truth(DOCUMENTS))

    @client.check("aget_text_embedding_batch")
    def asynchronous(servers):
        found = asyncio.run(connect(servers.open).aget_text_embedding_batch(TEXTS))
        same_bits(found, servers.open.truth(TEXTS))

    @client.check("get_text_embedding_batch with a token, over TLS")
    def token(servers):
        same_bits(connect(servers.secured).get_text_embedding_batch(TEXTS), servers.secured.truth(TEXTS))


register(TEI, connect_tei)
register(LIKE, connect_like)
register(OPENAI, connect_openai)
