"""OpenAI's client for Python."""

import asyncio
import json
import threading
import urllib.request

import openai

from clients import refusals
from clients.suite import MODEL, TEXTS, Client, expect, raises, same_bits, version_of

CLIENT = Client(
    "openai (Python)",
    version_of("openai"),
    """
from openai import OpenAI
client = OpenAI(base_url="http://localhost:9090/v1", api_key="none")
reply = client.embeddings.create(model="all-mpnet-base-v2", input=["hello", "naïve"])
vectors = [item.embedding for item in reply.data]
""",
)
AZURE = Client(
    "openai (Python), AzureOpenAI",
    version_of("openai"),
    """
from openai import AzureOpenAI
client = AzureOpenAI(azure_endpoint="http://localhost:9090", api_version="2024-10-21", api_key="none")
reply = client.embeddings.create(model="all-mpnet-base-v2", input=["hello", "naïve"])
vectors = [item.embedding for item in reply.data]
""",
)
CLIENTS = [CLIENT, AZURE]
CLIENT.check_lines()
AZURE.check_lines()


def connect(server, kind=openai.OpenAI, **options):
    return kind(base_url=f"{server.url}/v1", **{"api_key": server.token or "none", **options})


def vectors(reply):
    expect([item.index for item in reply.data] == list(range(len(reply.data))), "the indices are in order")
    return [item.embedding for item in reply.data]


def create(server, texts, **options):
    with connect(server) as client:
        return vectors(client.embeddings.create(model=MODEL, input=texts, **options))


@CLIENT.check("embeddings.create, base64 by default")
def base64_is_the_default(servers):
    with connect(servers.open) as client:
        raw = client.embeddings.with_raw_response.create(model=MODEL, input=TEXTS)
    first = json.loads(raw.http_response.content)["data"][0]["embedding"]
    expect(isinstance(first, str), f"base64 on the wire, not {first!r}")
    same_bits(vectors(raw.parse()), servers.open.truth(TEXTS))


@CLIENT.check('embeddings.create(encoding_format="float")')
def floats(servers):
    same_bits(create(servers.open, TEXTS, encoding_format="float"), servers.open.truth(TEXTS))


@CLIENT.check("embeddings.create(dimensions=7)")
def dimensions(servers):
    same_bits(create(servers.open, TEXTS, dimensions=7), servers.open.truth(TEXTS, dimensions=7))


@CLIENT.check("embeddings.create, one text")
def one_text(servers):
    same_bits(create(servers.open, TEXTS[1]), servers.open.truth(TEXTS[1:2]))


@CLIENT.check("embeddings.create, 2048 inputs")
def most_inputs(servers):
    texts = [f"text {number % 100}" for number in range(2048)]
    truth = servers.open.truth(texts[:100])
    same_bits(create(servers.open, texts), truth[[number % 100 for number in range(2048)]])


@CLIENT.check("embeddings.create, token ids of the model's tokenizer")
def token_ids(servers):
    request = urllib.request.Request(
        f"{servers.open.url}/tokenize", json.dumps({"inputs": TEXTS}).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        ids = [[token["id"] for token in tokens] for tokens in json.load(reply)]
    same_bits(create(servers.open, ids), servers.open.truth(TEXTS))
    same_bits(create(servers.open, ids[0]), servers.open.truth(TEXTS[:1]))


@CLIENT.check("embeddings.create, AsyncOpenAI, 20 calls at a time")
def asynchronous(servers):
    async def embed():
        async with connect(servers.open, openai.AsyncOpenAI) as client:
            calls = [client.embeddings.create(model=MODEL, input=TEXTS) for _ in range(20)]
            return await asyncio.gather(*calls)

    for reply in asyncio.run(embed()):
        same_bits(vectors(reply), servers.open.truth(TEXTS))


@CLIENT.check("embeddings.create with a token, over TLS")
def token(servers):
    same_bits(create(servers.secured, TEXTS), servers.secured.truth(TEXTS))


@CLIENT.check("embeddings.create with a wrong key, over TLS", "AuthenticationError, 401, `invalid_api_key`")
def wrong_key(servers):
    with connect(servers.secured, api_key="wrong") as client:
        error = raises(openai.AuthenticationError, lambda: client.embeddings.create(model=MODEL, input="a"))
    expect((error.status_code, error.code) == (401, "invalid_api_key"), f"{error.status_code}, {error.code}")


@CLIENT.check("embeddings.create, another model", "NotFoundError, 404, `model_not_found`; the message names the model")
def other_model(servers):
    with connect(servers.open) as client:
        error = raises(openai.NotFoundError, lambda: client.embeddings.create(model="other", input="a"))
    expect(error.code == "model_not_found" and MODEL in error.message, str(error))


@CLIENT.check("models.list and models.retrieve", "the served model")
def models(servers):
    with connect(servers.open) as client:
        names = [model.id for model in client.models.list()]
        expect(len(names) == 1 and names[0].endswith(MODEL), str(names))
        expect(client.models.retrieve(names[0]).id == names[0], "retrieve returns the model")


@CLIENT.check("embeddings.create over the quota (429)", "RateLimitError without retries; by default, it is retried")
def retry_after_429(servers):
    with refusals.with_quota(servers) as server:
        texts = TEXTS * (refusals.QUOTA // len(TEXTS))
        truth = servers.open.truth(TEXTS)[[number % len(TEXTS) for number in range(len(texts))]]
        with connect(server, max_retries=0) as client:
            calls = [lambda: client.embeddings.create(model=MODEL, input=texts)] * 5
            error = raises(openai.RateLimitError, lambda: [call() for call in calls])
        expect("retry-after" in error.response.headers, "retry-after is set")
        same_bits(create(server, texts), truth)


@CLIENT.check(
    "embeddings.create without capacity (503)", "InternalServerError without retries; by default, it is retried"
)
def retry_after_503(servers):
    with refusals.without_capacity(servers) as (server, finish):
        with connect(server, max_retries=0) as client:
            error = raises(openai.InternalServerError, lambda: client.embeddings.create(model=MODEL, input="a"))
        expect(error.status_code == 503 and "retry-after" in error.response.headers, str(error))
        timer = threading.Timer(0.3, finish)
        timer.start()
        same_bits(create(server, TEXTS), servers.open.truth(TEXTS))
        timer.join()


def create_azure(server, **key):
    options = {"azure_endpoint": server.url, "api_version": "2024-10-21", **key}
    with openai.AzureOpenAI(**options) as client:
        return vectors(client.embeddings.create(model=MODEL, input=TEXTS))


@AZURE.check("embeddings.create, any api_key")
def azure_key(servers):
    same_bits(create_azure(servers.open, api_key="none"), servers.open.truth(TEXTS))


@AZURE.check("embeddings.create with a token as api_key, over TLS")
def azure_key_is_token(servers):
    same_bits(create_azure(servers.secured, api_key=servers.secured.token), servers.secured.truth(TEXTS))


@AZURE.check("embeddings.create with a token as azure_ad_token, over TLS")
def azure_token(servers):
    token = servers.secured.token
    same_bits(create_azure(servers.secured, azure_ad_token=token), servers.secured.truth(TEXTS))
