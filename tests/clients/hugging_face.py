"""Hugging Face's client for inference servers."""

import asyncio

import numpy as np
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from clients.suite import DOCUMENTS, TEXTS, Client, expect, raises, same_bits, version_of

CLIENT = Client(
    "huggingface_hub",
    version_of("huggingface-hub"),
    """
from huggingface_hub import InferenceClient
client = InferenceClient(model="http://localhost:9090")
vectors = client.feature_extraction(["hello", "naïve"])
""",
)
CLIENTS = [CLIENT]
CLIENT.check_lines()


def connect(server, path="", **options):
    return InferenceClient(model=server.url + path, **{"token": server.token, **options})


@CLIENT.check("feature_extraction, one text")
def one_text(servers):
    same_bits(connect(servers.open).feature_extraction(TEXTS[1]), servers.open.truth(TEXTS[1:2]))


@CLIENT.check(f"feature_extraction, {len(DOCUMENTS)} texts")
def many(servers):
    same_bits(connect(servers.open).feature_extraction(DOCUMENTS), servers.open.truth(DOCUMENTS))


@CLIENT.check("feature_extraction(normalize=False, truncate=True, dimensions=7)")
def options(servers):
    found = connect(servers.open).feature_extraction(TEXTS, normalize=False, truncate=True, dimensions=7)
    same_bits(found, servers.open.truth(TEXTS, dimensions=7, normalize=False))


@CLIENT.check("feature_extraction, the path /embed")
def path(servers):
    same_bits(connect(servers.open, "/embed").feature_extraction(TEXTS), servers.open.truth(TEXTS))


@CLIENT.check("feature_extraction, AsyncInferenceClient")
def asynchronous(servers):
    async def embed():
        async with AsyncInferenceClient(model=servers.open.url) as client:
            return await client.feature_extraction(TEXTS)

    same_bits(asyncio.run(embed()), servers.open.truth(TEXTS))


@CLIENT.check("feature_extraction with a token, over TLS")
def token(servers):
    same_bits(connect(servers.secured).feature_extraction(TEXTS), servers.secured.truth(TEXTS))


@CLIENT.check("feature_extraction with a wrong token, over TLS", "HfHubHTTPError, 401")
def wrong_token(servers):
    client = connect(servers.secured, token="wrong")
    error = raises(HfHubHTTPError, lambda: client.feature_extraction(TEXTS))
    expect(error.response.status_code == 401, str(error))


@CLIENT.check("sentence_similarity", "the cosines, to 1e-6")
def similarity(servers):
    truth = servers.open.truth(TEXTS).astype(np.float64)
    found = np.array(connect(servers.open).sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:]))
    largest = np.abs(found - truth[1:] @ truth[0]).max()
    expect(found.shape == (len(TEXTS) - 1,) and largest <= 1e-6, f"{found.shape}, {largest:.1e}")
