"""Protobuf by hand, so that messages may break every rule, and the requests that the attacks send."""

import collections
import struct

EMBED = "/embedd.v1.EmbeddingService/Embed"
EMBED_STREAM = "/embedd.v1.EmbeddingService/EmbedStream"
COUNT_TOKENS = "/embedd.v1.EmbeddingService/CountTokens"
GET_MODEL = "/embedd.v1.EmbeddingService/GetModel"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
TEI_EMBED = "/tei.v1.Embed/Embed"
TOKENIZE = "/tei.v1.Tokenize/Tokenize"
TOKENIZE_STREAM = "/tei.v1.Tokenize/TokenizeStream"
DECODE = "/tei.v1.Tokenize/Decode"
HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
RELOAD = "/embedd.v1.AdminService/ReloadModel"
STATS = "/embedd.v1.AdminService/GetStats"
BENCHMARK = "/embedd.v1.AdminService/Benchmark"
VALIDATE = "/embedd.v1.AdminService/Validate"

MAX_TEXT_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
ENCODING_BYTES = 2

# The vocabularies of BERT and MPNet have no piece that starts with these two letters, so WordPiece looks up every
# prefix of every suffix: 5,050 lookups for 100 characters.
HARD_WORD = "zx" * 50
HARD_TEXT = " ".join([HARD_WORD] * 648)[: MAX_TEXT_BYTES - 16]
PUNCTUATION = "!" * (MAX_TEXT_BYTES - 16)


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while True:
        byte = number & 0x7F
        number >>= 7
        out.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(out)


def field(number, value):
    """A field of a message: strings, bytes and messages by length, integers as varints."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def parse(message):
    """The fields of a message: `{number: [values]}`."""
    fields = collections.defaultdict(list)
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _read_varint(message, at)
        elif kind == 2:
            length, at = _read_varint(message, at)
            value = message[at : at + length]
            at += length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value = message[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {kind}")
        fields[key >> 3].append(value)
    return fields


def _read_varint(message, at):
    shift = value = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def embed(texts, **options):
    numbers = {"normalize": 2, "truncation": 3, "dimensions": 4, "encoding": 5, "skip_cache": 6}
    message = b"".join(field(1, text) for text in texts)
    return message + b"".join(field(numbers[name], int(value)) for name, value in options.items())


def count_tokens(texts):
    return b"".join(field(1, text) for text in texts)


def tokenize(text, special_tokens=True):
    return field(1, text) + field(2, int(special_tokens))


def decode(ids):
    return field(1, b"".join(map(varint, ids)))


def tensor(name="text", datatype="BYTES", shape=(1,), texts=None):
    message = field(1, name) + field(2, datatype) + b"".join(field(3, size) for size in shape)
    if texts is not None:
        message += field(5, b"".join(field(8, text) for text in texts))
    return message


def infer(model, inputs=(), raw=(), parameters=(), outputs=()):
    message = field(1, model)
    message += b"".join(field(4, field(1, name) + field(2, value)) for name, value in parameters)
    message += b"".join(field(5, each) for each in inputs)
    message += b"".join(field(6, each) for each in outputs)
    return message + b"".join(field(7, each) for each in raw)


def framed(message, compressed=0, length=None):
    """A message with gRPC's prefix of five bytes; `length` may announce another length."""
    return struct.pack(">BI", compressed, len(message) if length is None else length) + message


def unframed(data):
    messages = []
    while len(data) >= 5:
        length = struct.unpack(">I", data[1:5])[0]
        messages.append(data[5 : 5 + length])
        data = data[5 + length :]
    return messages


class Embedding:
    """One embedding of an `EmbedResponse`."""

    def __init__(self, message):
        fields = parse(message)
        self.bits = fields[2][0] if fields[2] else b"".join(fields[1])
        self.token_count = fields[3][0] if fields[3] else 0
        self.cached = bool(fields[5])


def embeddings(response):
    return [Embedding(each) for each in parse(response)[1]]
