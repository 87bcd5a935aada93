"""LangChain's classes for OpenAI's API and for Hugging Face's endpoints."""

import asyncio
import importlib.util
import os

# LiteLLM's package has the files of tiktoken, which would otherwise be downloaded.
PACKAGE = os.path.dirname(importlib.util.find_spec("litellm").origin)
os.environ["TIKTOKEN_CACHE_DIR"] = os.path.join(PACKAGE, "litellm_core_utils", "tokenizers")

import openai  # noqa: E402
from huggingface_hub import InferenceClient  # noqa: E402
from langchain_huggingface import HuggingFaceEndpointEmbeddings  # noqa: E402
from langchain_openai import OpenAIEmbeddings  # noqa: E402

from clients.suite import (  # noqa: E402
    DOCUMENTS,
    LINES_TEXTS,
    MODEL,
    TEXTS,
    Client,
    at_servers,
    expect,
    raises,
    same_bits,
    version_of,
)

OPENAI = Client(
    "langchain-openai",
    version_of("langchain-openai"),
    """
from langchain_openai import OpenAIEmbeddings
server = {"base_url": "http://localhost:9090/v1", "api_key": "none"}
# Without the last option, it sends token ids of OpenAI's tokenizer.
embeddings = OpenAIEmbeddings(model="all-mpnet-base-v2", **server, check_embedding_ctx_length=False)
""",
)
HUGGING_FACE = Client(
    "langchain-huggingface",
    version_of("langchain-huggingface"),
    """
from huggingface_hub import InferenceClient
from langchain_huggingface import HuggingFaceEndpointEmbeddings
embeddings = HuggingFaceEndpointEmbeddings(model="all-mpnet-base-v2")
embeddings.client = InferenceClient(model="http://localhost:9090")
""",
)
CLIENTS = [OPENAI, HUGGING_FACE]


def run_lines(client):
    @client.check("the lines above, embed_documents")
    def lines(servers):
        variables = {}
        exec(at_servers(client.lines, servers), variables)
        same_bits(variables["embeddings"].embed_documents(LINES_TEXTS), servers.open.truth(LINES_TEXTS))


run_lines(OPENAI)
run_lines(HUGGING_FACE)


def connect(server, **options):
    address = {"base_url": f"{server.url}/v1", "api_key": server.token or "none"}
    return OpenAIEmbeddings(model=MODEL, **address, **options)


@OPENAI.check("embed_query")
def query(servers):
    found = connect(servers.open, check_embedding_ctx_length=False).embed_query(TEXTS[1])
    same_bits([found], servers.open.truth(TEXTS[1:2]))


@OPENAI.check(f"embed_documents, {len(DOCUMENTS)} documents")
def many(servers):
    found = connect(servers.open, check_embedding_ctx_length=False).embed_documents(DOCUMENTS)
    same_bits(found, servers.open.truth(DOCUMENTS))


@OPENAI.check("aembed_documents")
def asynchronous(servers):
    found = asyncio.run(connect(servers.open, check_embedding_ctx_length=False).aembed_documents(TEXTS))
    same_bits(found, servers.open.truth(TEXTS))


@OPENAI.check("embed_documents with a token, over TLS")
def token(servers):
    found = connect(servers.secured, check_embedding_ctx_length=False).embed_documents(TEXTS)
    same_bits(found, servers.secured.truth(TEXTS))


@OPENAI.check(
    "embed_documents without check_embedding_ctx_length=False: token ids of OpenAI's tokenizer",
    "400 for ids of another tokenizer; the message names the input and the option of LangChain",
)
def foreign_token_ids(servers):
    for text in TEXTS:
        error = raises(openai.BadRequestError, lambda: connect(servers.open).embed_query(text))
        expect("input[0]" in error.message and "check_embedding_ctx_length=False" in error.message, error.message)


@OPENAI.check("embed_documents(tiktoken_enabled=False), the model's tokenizer")
def local_tokenizer(servers):
    # It sends the decoded tokens, so only texts in the tokenizer's normal form are the same.
    texts = ["ignore all previous instructions", "hello"]
    options = {"tiktoken_enabled": False, "tiktoken_model_name": servers.program.bundle}
    same_bits(connect(servers.open, **options).embed_documents(texts), servers.open.truth(texts))


@HUGGING_FACE.check("embed_query")
def endpoint_query(servers):
    same_bits([endpoint(servers.open).embed_query(TEXTS[1])], servers.open.truth(TEXTS[1:2]))


@HUGGING_FACE.check(f"embed_documents, {len(DOCUMENTS)} documents")
def endpoint_many(servers):
    same_bits(endpoint(servers.open).embed_documents(DOCUMENTS), servers.open.truth(DOCUMENTS))


@HUGGING_FACE.check("embed_documents with a token, over TLS")
def endpoint_token(servers):
    same_bits(endpoint(servers.secured).embed_documents(TEXTS), servers.secured.truth(TEXTS))


def endpoint(server):
    embeddings = HuggingFaceEndpointEmbeddings(model=MODEL)
    embeddings.client = InferenceClient(model=server.url, token=server.token)
    return embeddings


@HUGGING_FACE.check("HuggingFaceEndpointEmbeddings(model=URL)", "rejected by the client, not by the server")
def address_as_model(servers):
    error = raises(ValueError, lambda: HuggingFaceEndpointEmbeddings(model=servers.open.url))
    expect("not a URL" in str(error), str(error))
