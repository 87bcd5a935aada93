"""Chroma's embedding functions."""

import os
import warnings

import chromadb
import numpy as np
from chromadb.utils import embedding_functions as functions

from clients.suite import DOCUMENTS, MODEL, TEXTS, Client, expect, same_bits, version_of

VERSION = version_of("chromadb")
OPENAI = Client(
    "chromadb, OpenAIEmbeddingFunction",
    VERSION,
    """
from chromadb.utils.embedding_functions import OpenAIEmbeddingFunction
server = {"api_base": "http://localhost:9090/v1", "api_key": "none"}
vectors = OpenAIEmbeddingFunction(model_name="all-mpnet-base-v2", **server)(["hello", "naïve"])
""",
)
HUGGING_FACE = Client(
    "chromadb, HuggingFaceEmbeddingServer",
    VERSION,
    """
from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer
embed = HuggingFaceEmbeddingServer(url="http://localhost:9090/embed")
vectors = embed(["hello", "naïve"])
""",
)
COHERE = Client(
    "chromadb, CohereEmbeddingFunction",
    VERSION,
    """
import os
os.environ["CO_API_URL"] = "http://localhost:9090"  # before anything imports cohere
from chromadb.utils.embedding_functions import CohereEmbeddingFunction
vectors = CohereEmbeddingFunction(model_name="all-mpnet-base-v2", api_key="none")(["hello", "naïve"])
""",
)
# The last, because its address is set for the whole process.
CLIENTS = [OPENAI, HUGGING_FACE, COHERE]
for client in CLIENTS:
    client.check_lines()
# The functions advise against keys as arguments.
warnings.filterwarnings("ignore", category=DeprecationWarning)


def openai_function(server):
    return functions.OpenAIEmbeddingFunction(
        model_name=MODEL, api_base=f"{server.url}/v1", api_key=server.token or "none"
    )


def hugging_face_function(server):
    return functions.HuggingFaceEmbeddingServer(url=f"{server.url}/embed", api_key=server.token)


def register(client, function):
    @client.check("with a token, over TLS")
    def token(servers):
        same_bits(function(servers.secured)(TEXTS), servers.secured.truth(TEXTS))

    @client.check(f"{len(DOCUMENTS)} documents")
    def many(servers):
        same_bits(function(servers.open)(DOCUMENTS), servers.open.truth(DOCUMENTS))

    @client.check(
        f"of a collection, {len(DOCUMENTS)} documents", "to 1e-7, because Chroma scales stored vectors itself"
    )
    def collection(servers):
        ids = [str(number) for number in range(len(DOCUMENTS))]
        options = {"embedding_function": function(servers.open)}
        documents = chromadb.EphemeralClient().create_collection(f"of-{function.__name__}", **options)
        documents.add(ids=ids, documents=DOCUMENTS)
        stored = documents.get(ids=ids, include=["embeddings"])
        vectors = dict(zip(stored["ids"], stored["embeddings"], strict=True))
        largest = np.abs(np.array([vectors[each] for each in ids]) - servers.open.truth(DOCUMENTS)).max()
        expect(largest <= 1e-7, f"components differ by up to {largest:.1e}")

    @client.check("of a collection, query", "the nearest document")
    def query(servers):
        options = {"embedding_function": function(servers.open)}
        texts = chromadb.EphemeralClient().create_collection(f"query-of-{function.__name__}", **options)
        texts.add(ids=TEXTS, documents=TEXTS)
        nearest = texts.query(query_texts=TEXTS, n_results=1)["ids"]
        expect(nearest == [[text] for text in TEXTS], str(nearest))


register(OPENAI, openai_function)
register(HUGGING_FACE, hugging_face_function)


@COHERE.check("with other texts")
def others(servers):
    expect(os.environ["CO_API_URL"] == servers.open.url, "the lines above were run")
    found = functions.CohereEmbeddingFunction(model_name=MODEL, api_key="none")(TEXTS)
    same_bits(found, servers.open.truth(TEXTS))
