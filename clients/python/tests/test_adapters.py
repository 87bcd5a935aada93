"""The adapters, with the real frameworks and a real server."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import PATIENCE, Server

import embedd.mteb
from embedd import AsyncClient, Client, InvalidRequestError
from embedd._adapter import choose_prompt

#: Texts that the small model tells apart.
TEXTS = ["bron taka", "<mask> fi", "Hello there"]


@pytest.fixture
def client(prompt_server: Server) -> Any:
    """A client of the model with the prompts `query`, `document` and `tag`."""
    with Client(prompt_server.address, deadline=60) as client:
        yield client


def vectors(client: Client, prompt: str, texts: list[str] = TEXTS) -> list[list[float]]:
    """The vectors with a prompt."""
    found: list[list[float]] = client.embed(texts, prompt_name=prompt).vectors.tolist()
    return found


def test_prompts_are_chosen_by_purpose(client: Client) -> None:
    model = client.model()

    def chosen(*names: str) -> tuple[str | None, str | None]:
        other = dataclasses.replace(model, prompt_names=names)
        return choose_prompt(other, "document"), choose_prompt(other, "query")

    assert chosen("document", "query", "tag") == ("document", "query")
    assert chosen("corpus", "passage", "query") == ("passage", "query")
    assert chosen("query") == ("", "query"), "no prompt for documents"
    assert chosen("document") == ("document", "")
    assert chosen("tag") == (None, None), "the server's default"
    assert chosen() == (None, None)


def test_langchain_embeds_documents_and_queries(client: Client, prompt_server: Server) -> None:
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import InMemoryVectorStore

    from embedd.langchain import EmbeddEmbeddings

    embeddings = EmbeddEmbeddings(prompt_server.address, deadline=60)
    assert isinstance(embeddings, Embeddings)
    assert embeddings.embed_documents(TEXTS) == vectors(client, "document")
    assert embeddings.embed_query("bron") == vectors(client, "query", ["bron"])[0]
    assert embeddings.embed_documents([]) == []

    async def both() -> tuple[list[list[float]], list[float]]:
        return await embeddings.aembed_documents(TEXTS), await embeddings.aembed_query("bron")

    for _ in range(2):  # In two event loops, one after the other.
        assert asyncio.run(both()) == (vectors(client, "document"), vectors(client, "query", ["bron"])[0])
    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    documents = np.array(vectors(client, "document"))
    best = TEXTS[int(np.argmax(documents @ vectors(client, "query", ["bron"])[0]))]
    assert store.similarity_search("bron", k=1)[0].page_content == best
    tagged = EmbeddEmbeddings(prompt_server.address, document_prompt="tag", query_prompt="")
    assert tagged.embed_documents(TEXTS) == vectors(client, "tag")
    assert tagged.embed_query("bron") == vectors(client, "", ["bron"])[0]
    with pytest.raises(InvalidRequestError, match="the model has the prompts"):
        EmbeddEmbeddings(prompt_server.address, query_prompt="missing").embed_query("a")


def test_llama_index_embeds_texts_and_queries(client: Client, prompt_server: Server) -> None:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode

    from embedd.llama_index import EmbeddEmbedding

    token = "secret-token"  # noqa: S105
    embedding = EmbeddEmbedding(prompt_server.address, embed_batch_size=2, settings={"deadline": 60, "token": token})
    assert embedding.get_text_embedding_batch(TEXTS) == vectors(client, "document")
    assert embedding.get_text_embedding(TEXTS[0]) == vectors(client, "document")[0]
    assert embedding.get_query_embedding("bron") == vectors(client, "query", ["bron"])[0]

    async def both() -> tuple[list[list[float]], list[float]]:
        return await embedding.aget_text_embedding_batch(TEXTS), await embedding.aget_query_embedding("bron")

    for _ in range(2):
        assert asyncio.run(both()) == (vectors(client, "document"), vectors(client, "query", ["bron"])[0])
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=embedding)
    documents = np.array(vectors(client, "document"))
    best = TEXTS[int(np.argmax(documents @ vectors(client, "query", ["bron"])[0]))]
    assert index.as_retriever(similarity_top_k=1).retrieve("bron")[0].node.get_content() == best
    stored = embedding.to_dict()
    assert (stored["class_name"], stored["address"]) == ("EmbeddEmbedding", prompt_server.address)
    assert token not in str(stored)
    assert token not in repr(embedding)
    restored = EmbeddEmbedding.from_dict(stored)
    assert restored.get_query_embedding("bron") == embedding.get_query_embedding("bron")


def test_chroma_stores_and_restores_the_embedding_function(
    client: Client, prompt_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import chromadb
    from chromadb.config import Settings

    from embedd.chroma import EmbeddEmbeddingFunction

    monkeypatch.setenv("TOKEN_OF_TEST", "secret-token")
    function = EmbeddEmbeddingFunction(prompt_server.address, deadline=60, token_env_var="TOKEN_OF_TEST")  # noqa: S106
    assert [vector.tolist() for vector in function(TEXTS)] == vectors(client, "document")
    assert [vector.tolist() for vector in function.embed_query(["bron"])] == vectors(client, "query", ["bron"])
    assert not function.is_legacy()
    assert "secret-token" not in str(function.get_config())
    settings = Settings(anonymized_telemetry=False)
    database = chromadb.PersistentClient(str(tmp_path), settings)
    # Chroma's types do not accept functions for texts only, not even its own.
    collection = database.create_collection("texts", embedding_function=function)  # type: ignore[arg-type]
    collection.add(ids=["0", "1", "2"], documents=TEXTS)
    # Without the function, as another program would open it: Chroma restores it from the configuration.
    restored = chromadb.PersistentClient(str(tmp_path), settings).get_collection("texts")
    found = restored.query(query_texts=["bron"], n_results=3, include=["embeddings", "distances", "documents"])
    assert found["distances"] is not None
    documents = np.array(vectors(client, "document"))
    similarity = documents @ vectors(client, "query", ["bron"])[0]
    assert found["ids"][0] == [str(index) for index in np.argsort(-similarity)]
    np.testing.assert_allclose(found["distances"][0], np.sort(1 - similarity), atol=1e-5)
    small = EmbeddEmbeddingFunction.build_from_config({"address": prompt_server.address, "dimensions": 4})
    assert small(["a"])[0].shape == (4,)
    with pytest.raises(ValueError, match="unknown settings of the embedding function: port"):
        EmbeddEmbeddingFunction.build_from_config({"port": 1})
    with pytest.raises(ValueError, match="dimensions"):
        small.validate_config_update(small.get_config(), function.get_config())
    with pytest.raises(ValueError, match="MISSING is not set"):
        EmbeddEmbeddingFunction(token_env_var="MISSING")  # noqa: S106


class PromptType:
    """Like mteb.types.PromptType."""

    def __init__(self, value: str) -> None:
        self.value = value


def test_mteb_encodes_batches(client: Client, prompt_server: Server) -> None:
    encoder = embedd.mteb.EmbeddEncoder(prompt_server.address, deadline=60)
    batches = [{"text": TEXTS[:2]}, {"text": TEXTS[2:]}]

    def encode(prompt_type: PromptType | None) -> list[list[float]]:
        where = {"task_metadata": None, "hf_split": "test", "hf_subset": "default", "batch_size": 2}
        encoded: list[list[float]] = encoder.encode(batches, prompt_type=prompt_type, **where).tolist()  # type: ignore[arg-type]
        return encoded

    assert encode(PromptType("query")) == vectors(client, "query")
    assert encode(PromptType("document")) == vectors(client, "document")
    assert encode(None) == vectors(client, "tag"), "the server's default prompt"
    empty = encoder.encode([], task_metadata=None, hf_split="test", hf_subset="default")
    assert empty.shape == (0, client.model().dimension)
    with pytest.raises(TypeError, match="the task has image"):
        encoder.encode([{"image": []}], task_metadata=None, hf_split="test", hf_subset="default")
    a = np.array(vectors(client, "query"))
    np.testing.assert_allclose(encoder.similarity(a, 3 * a), a @ a.T, atol=1e-5)
    np.testing.assert_allclose(encoder.similarity_pairwise(a, 3 * a), [1, 1, 1], atol=1e-5)


def test_the_encoder_has_what_mteb_expects(prompt_server: Server) -> None:
    signature = inspect.signature(embedd.mteb.EmbeddEncoder.encode)
    expected = ["self", "inputs", "task_metadata", "hf_split", "hf_subset", "prompt_type", "kwargs"]
    assert list(signature.parameters) == expected, "the parameters of mteb.EncoderProtocol.encode"
    assert isinstance(embedd.mteb.EmbeddEncoder.mteb_model_meta, property)
    protocols = pytest.importorskip("mteb.models.models_protocols", reason="mteb is not installed, as it needs PyTorch")
    encoder = embedd.mteb.EmbeddEncoder(prompt_server.address)
    assert isinstance(encoder, protocols.EncoderProtocol)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.embed_dim) == ("embedd/bert-default-prompt", 32)


@pytest.mark.parametrize(
    ("module", "framework", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("llama_index", "llama_index", "llama-index"),
        ("chroma", "chromadb", "chroma"),
    ],
)
def test_a_missing_framework_is_named_with_its_extra(module: str, framework: str, extra: str) -> None:
    script = f"import sys; sys.modules[{framework!r}] = None; import embedd.{module}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False)
    assert output.returncode == 1
    assert output.stderr.strip().endswith(f"pip install 'embedd[{extra}]'"), output.stderr


def test_the_package_imports_no_framework(prompt_server: Server) -> None:
    script = "import sys, embedd, embedd.mteb; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=True)
    imported = {name.partition(".")[0] for name in output.stdout.split()}
    assert not imported.intersection({"langchain_core", "llama_index", "chromadb", "mteb", "torch"})


def test_a_client_of_one_event_loop_does_not_disturb_another(prompt_server: Server) -> None:
    async def embed() -> bytes:
        async with AsyncClient(prompt_server.address, deadline=60) as client:
            return (await client.embed_one("a")).vector.tobytes()

    assert asyncio.run(embed()) == asyncio.run(embed())
