"""grpcio without generated code, with gzip, as clients in Java and .NET are often set up."""

import struct

import grpc
import numpy as np

from attacks import messages
from clients.suite import MODEL, TEXTS, Client, expect, same_bits, version_of

CLIENT = Client("grpcio", version_of("grpcio"), "")
CLIENTS = [CLIENT]
TIMEOUT = 30
# Long enough for clients to compress them.
LONG_TEXTS = [f"{text} {number}" for number in range(16) for text in TEXTS]


def connect(server, compression):
    if not server.ca:
        return grpc.insecure_channel(server.grpc, compression=compression)
    with open(server.ca, "rb") as ca:
        credentials = grpc.ssl_channel_credentials(ca.read())
    return grpc.secure_channel(server.grpc, credentials, compression=compression)


def call(server, path, message, compression=grpc.Compression.Gzip):
    token = [("authorization", f"Bearer {server.token}")] if server.token else []
    with connect(server, compression) as channel:
        return channel.unary_unary(path)(message, timeout=TIMEOUT, metadata=token)


def embed(server, texts, **options):
    reply = call(server, messages.EMBED, messages.embed(texts, encoding=messages.ENCODING_BYTES), **options)
    return [np.frombuffer(embedding.bits, "<f4") for embedding in messages.embeddings(reply)]


@CLIENT.check("embedd.v1.EmbeddingService/Embed, not compressed, with a token, over TLS")
def not_compressed(servers):
    found = embed(servers.secured, LONG_TEXTS, compression=grpc.Compression.NoCompression)
    same_bits(found, servers.secured.truth(LONG_TEXTS))


@CLIENT.check("embedd.v1.EmbeddingService/Embed, gzip")
def embedd_gzip(servers):
    same_bits(embed(servers.open, LONG_TEXTS), servers.open.truth(LONG_TEXTS))


@CLIENT.check("tei.v1.Embed/Embed, gzip")
def tei_gzip(servers):
    text = " ".join(TEXTS)
    reply = messages.parse(call(servers.open, messages.TEI_EMBED, messages.field(1, text)))
    same_bits([np.frombuffer(reply[1][0], "<f4")], servers.open.truth([text]))


@CLIENT.check("inference.GRPCInferenceService/ModelInfer, gzip")
def infer_gzip(servers):
    raw = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in LONG_TEXTS)
    message = messages.infer(MODEL, [messages.tensor(shape=[len(LONG_TEXTS)])], [raw])
    reply = messages.parse(call(servers.open, messages.MODEL_INFER, message))
    expect(len(reply[6]) == 1, "one raw output")
    same_bits(np.frombuffer(reply[6][0], "<f4").reshape(len(LONG_TEXTS), -1), servers.open.truth(LONG_TEXTS))
