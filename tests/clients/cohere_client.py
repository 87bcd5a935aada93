"""Cohere's client, with both versions of the API."""

import asyncio
import base64
import struct

import cohere
import cohere.errors
import numpy as np

from clients.suite import DOCUMENTS, MODEL, TEXTS, Client, expect, raises, same_bits, version_of

V2 = Client(
    "cohere, ClientV2",
    version_of("cohere"),
    """
import cohere
client = cohere.ClientV2(api_key="none", base_url="http://localhost:9090")
options = {"model": "all-mpnet-base-v2", "input_type": "search_document", "embedding_types": ["float"]}
vectors = client.embed(texts=["hello", "naïve"], **options).embeddings.float_
""",
)
V1 = Client(
    "cohere, Client",
    version_of("cohere"),
    """
import cohere
client = cohere.Client(api_key="none", base_url="http://localhost:9090")
options = {"model": "all-mpnet-base-v2", "input_type": "search_document"}
vectors = client.embed(texts=["hello", "naïve"], **options).embeddings
""",
)
CLIENTS = [V2, V1]
V2.check_lines()
V1.check_lines()

OPTIONS = {"model": MODEL, "input_type": "search_query"}


def connect(server, kind=cohere.ClientV2, **options):
    return kind(**{"api_key": server.token or "none", "base_url": server.url, **options})


def embed(server, **options):
    return connect(server).embed(**OPTIONS, **options).embeddings


@V2.check('embed(embedding_types=["float", "base64"])')
def two_types(servers):
    found = embed(servers.open, texts=TEXTS, embedding_types=["float", "base64"])
    decoded = [struct.unpack(f"<{len(found.float_[0])}f", base64.b64decode(each)) for each in found.base64]
    same_bits(found.float_, servers.open.truth(TEXTS))
    same_bits(decoded, servers.open.truth(TEXTS))


@V2.check('embed(embedding_types=["ubinary"])', "the signs")
def signs(servers):
    found = embed(servers.open, texts=TEXTS, embedding_types=["ubinary"]).ubinary
    truth = np.packbits(servers.open.truth(TEXTS) > 0, axis=1)
    expect(np.array_equal(np.array(found, np.uint8), truth), f"{found} instead of {truth.tolist()}")


@V2.check("embed(output_dimension=7)")
def dimensions(servers):
    found = embed(servers.open, texts=TEXTS, output_dimension=7, embedding_types=["float"])
    same_bits(found.float_, servers.open.truth(TEXTS, dimensions=7))


@V2.check("embed(inputs=...)")
def inputs(servers):
    contents = [{"content": [{"type": "text", "text": text}]} for text in TEXTS]
    found = embed(servers.open, inputs=contents, embedding_types=["float"])
    same_bits(found.float_, servers.open.truth(TEXTS))


@V2.check("embed, AsyncClientV2")
def asynchronous(servers):
    async def call():
        async with connect(servers.open, cohere.AsyncClientV2) as client:
            return await client.embed(**OPTIONS, texts=TEXTS, embedding_types=["float"])

    same_bits(asyncio.run(call()).embeddings.float_, servers.open.truth(TEXTS))


@V2.check("embed with a token, over TLS")
def token(servers):
    found = embed(servers.secured, texts=TEXTS, embedding_types=["float"])
    same_bits(found.float_, servers.secured.truth(TEXTS))


@V2.check("embed with a wrong key, over TLS", "UnauthorizedError, 401")
def wrong_key(servers):
    client = connect(servers.secured, api_key="wrong")
    error = raises(cohere.errors.UnauthorizedError, lambda: client.embed(**OPTIONS, texts=TEXTS))
    expect(error.status_code == 401 and "message" in error.body, str(error))


@V2.check("embed, images", "BadRequestError, 400")
def images(servers):
    call = {"model": MODEL, "input_type": "image", "images": ["data:image/png;base64,AA=="]}
    error = raises(cohere.errors.BadRequestError, lambda: connect(servers.open).embed(**call))
    expect("images" in str(error.body), str(error))


@V1.check(f"embed, {len(DOCUMENTS)} texts")
def many(servers):
    found = connect(servers.open, cohere.Client).embed(**OPTIONS, texts=DOCUMENTS).embeddings
    same_bits(found, servers.open.truth(DOCUMENTS))


@V1.check('embed(embedding_types=["float"])')
def types(servers):
    found = connect(servers.open, cohere.Client).embed(**OPTIONS, texts=TEXTS, embedding_types=["float"])
    same_bits(found.embeddings.float_, servers.open.truth(TEXTS))
