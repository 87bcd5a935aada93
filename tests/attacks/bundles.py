"""Bundles that are made to do harm. Nothing of the original is changed: its files are linked or copied."""

import hashlib
import json
import os
import shutil
import struct
import tempfile


class CraftedBundle:
    """A copy of a bundle whose files may be replaced."""

    def __init__(self, launcher):
        self.source = launcher.bundle
        self.folder = tempfile.mkdtemp(prefix="crafted-", dir=launcher.bundles)
        for name in os.listdir(self.source):
            source = os.path.join(self.source, name)
            if os.path.isfile(source):
                self._link(source, self.path(name))

    @staticmethod
    def _link(source, destination):
        try:
            os.link(source, destination)
        except OSError:  # another file system
            shutil.copyfile(source, destination)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(os.path.join(self.source, name), "rb") as file:
            return file.read()

    @property
    def manifest(self):
        with open(os.path.join(self.source, "manifest.json"), encoding="utf-8") as file:
            return json.load(file)

    def replace(self, name, data):
        """Replaces a file and leaves the manifest as it is."""
        # Not written in place: the link's other end is the original.
        if os.path.lexists(self.path(name)):
            os.unlink(self.path(name))
        with open(self.path(name), "wb") as file:
            file.write(data)

    def write(self, name, data):
        """Replaces a file, and makes the manifest match it."""
        self.replace(name, data)
        manifest = self.manifest
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        self.write_manifest(manifest)

    def write_manifest(self, manifest):
        self.replace("manifest.json", json.dumps(manifest).encode())


def split_safetensors(data):
    """The header, and the bytes after it."""
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join_safetensors(header, body, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def broken_weights(header, body):
    """What is wrong, and the file."""
    names = [name for name in header if name != "__metadata__"]
    matrix = next(name for name in names if len(header[name]["shape"]) == 4)
    scale = next(name for name in names if name.endswith("/scale"))
    begin, end = header[matrix]["data_offsets"]
    shape = header[matrix]["shape"]

    def changed(**parts):
        return join_safetensors({**header, matrix: {**header[matrix], **parts}}, body)

    yield "empty", b""
    yield "7 bytes", bytes(7)
    yield "a header of 2^64-1 bytes", join_safetensors(header, body[:100], 0xFFFFFFFFFFFFFFFF)
    yield "a header beyond the end", join_safetensors(header, b"", 10**8)
    yield "a header of 120 MB", join_safetensors(b"{" + b" " * 120_000_000 + b"}", b"")
    yield "a header that is not JSON", join_safetensors(b"\xff" * 100, body[:1000])
    yield "a nested header", join_safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"")
    yield "no tensors", join_safetensors({}, b"")
    yield "cut short", join_safetensors(header, body[:-1])
    yield "longer", join_safetensors(header, body + bytes(4096))
    yield "an offset beyond the end", changed(data_offsets=[begin, end + (1 << 40)])
    yield "offsets of 2^64-1", changed(data_offsets=[0xFFFFFFFFFFFFFFF0, 0xFFFFFFFFFFFFFFFF])
    yield "a negative offset", changed(data_offsets=[-1, end])
    yield "offsets in the wrong order", changed(data_offsets=[end, begin])
    yield "two tensors in one place", changed(data_offsets=header[names[0]]["data_offsets"])
    yield "a shape whose product overflows", changed(shape=[1 << 32, 1 << 32, 1, 1])
    yield "a shape that overflows to the right size", changed(shape=[1 << 62, 4, *shape])
    yield "a size of 0", changed(shape=[0, *shape[1:]])
    yield "one tile less", changed(shape=[shape[0] - 1, *shape[1:]])
    yield "sizes in the wrong order", changed(shape=shape[::-1])
    yield "another tiling of the same size", changed(shape=[shape[0] // 2, shape[1] * 2, *shape[2:]])
    yield "5,000 dimensions", changed(shape=shape + [1] * 5000)
    yield "another type of the same size", changed(dtype="U8")
    yield "an unknown type", changed(dtype="F8_X")
    yield "a missing tensor", join_safetensors({name: entry for name, entry in header.items() if name != matrix}, body)
    shifted = {
        name: entry
        if name == "__metadata__"
        else {**entry, "data_offsets": [offset + 1 for offset in entry["data_offsets"]]}
        for name, entry in header.items()
    }
    yield "unaligned tensors", join_safetensors(shifted, b"\0" + body)
    first, last = header[scale]["data_offsets"]
    yield (
        "infinite scales",
        join_safetensors(header, body[:first] + b"\x00\x00\x80\x7f" * ((last - first) // 4) + body[last:]),
    )


def broken_manifests(good):
    """What is wrong, and the manifest."""
    native = good["models"]["native"]
    files = good["files"]

    def changed(**parts):
        return {**good, **parts}

    def model(file):
        return changed(models={"native": {**native, "file": file}}, files={**files, file: files["config.json"]})

    yield "dimension 0", changed(dimension=0)
    yield "dimension 2^31", changed(dimension=1 << 31)
    yield "dimension 767", changed(dimension=767)
    yield "dimension 2^32", changed(dimension=1 << 32)
    yield "dimension -1", changed(dimension=-1)
    yield "max_tokens 0", changed(max_tokens=0)
    yield "max_tokens 2^32-1", changed(max_tokens=0xFFFFFFFF, position_limit=0xFFFFFFFF)
    yield "position_limit 2^32-1", changed(position_limit=0xFFFFFFFF)
    yield "an unknown pooling", changed(pooling="maximum")
    yield "an unknown format", changed(format=99)
    yield "format 2^64", changed(format=1 << 64)
    yield "no models", changed(models={})
    yield "a file outside", model("../../../../etc/passwd")
    yield "an absolute file", model("/etc/passwd")
    yield "NUL in a file name", model("a\0b")
    yield "an empty file name", model("")
    yield "a folder as a file", model(".")
    yield (
        "graph and weights exchanged",
        changed(models={"native": {**native, "file": native["weights"], "weights": native["file"]}}),
    )
    yield "no weights", changed(models={"native": {key: value for key, value in native.items() if key != "weights"}})
    yield "an invalid checksum", changed(files={**files, "tokenizer.json": {"sha256": "zz", "bytes": 1}})
    yield (
        "2^64-1 bytes",
        changed(files={**files, native["weights"]: {**files[native["weights"]], "bytes": (1 << 64) - 1}}),
    )


def broken_tokenizers(good):
    """What is wrong, and the tokenizer. Some of them are valid, and only slow or odd."""
    vocabulary = good["model"]["vocab"]
    token = {
        "content": "<evil>",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": False,
    }

    def model(**parts):
        return {**good, "model": {**good["model"], **parts}}

    yield (
        "ids beyond the embedding table",
        model(vocab={word: number + (1 << 20) for word, number in vocabulary.items()}),
    )
    yield "an id of 2^32-1", model(vocab={**vocabulary, "the": 0xFFFFFFFF})
    yield "an added id of 2^32-2", {**good, "added_tokens": good["added_tokens"] + [{**token, "id": 0xFFFFFFFE}]}
    yield "no vocabulary", model(vocab={})
    yield "an unknown piece that does not exist", model(unk_token="<none>")
    yield "words of 2^62 characters", model(max_input_chars_per_word=1 << 62)
    yield "a model that is a list", {**good, "model": []}
    yield "no model", {key: value for key, value in good.items() if key != "model"}
    special = {
        "type": "RobertaProcessing",
        "sep": ["</s>", 0xFFFFFFFF],
        "cls": ["<s>", 0xFFFFFFFF],
        "trim_offsets": True,
        "add_prefix_space": False,
    }
    yield "special tokens that do not exist", {**good, "post_processor": special}
    exploding = {"type": "Split", "pattern": {"Regex": "^(a+)+$"}, "behavior": "Isolated", "invert": False}
    yield "a regular expression that explodes", {**good, "pre_tokenizer": exploding}
    longer = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 3
    yield "texts that grow", {**good, "normalizer": {"type": "Sequence", "normalizers": longer}}
    padding = {
        "strategy": {"Fixed": 1 << 30},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    truncation = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    yield "its own truncation and padding", {**good, "truncation": truncation, "padding": padding}
