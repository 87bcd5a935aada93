"""Uses an unpacked tarball as a detector would, and compares the embeddings with PyTorch's.

Arguments: the model's folder, the reference set, the number of its texts to embed. Prints JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers

BATCH = 8


def read_reference(path):
    """Returns the texts, PyTorch's embeddings and the maximum number of tokens from a safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])

    def tensor(name, dtype):
        begin, end = header[name]["data_offsets"]
        return np.frombuffer(data[start + begin : start + end], dtype).reshape(header[name]["shape"])

    lines = tensor("texts", np.uint8).tobytes().decode().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    return texts, tensor("embeddings", "<f4"), int(header["__metadata__"]["max_seq_length"])


def load_tokenizer(path, max_tokens):
    """Replaces the truncation and padding in the file, which may be those used in training."""
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    padding = tokenizer.padding or {}
    token = padding.get("pad_token", "<pad>")
    pad = {"pad_token": token, "pad_id": padding.get("pad_id", tokenizer.token_to_id(token))}
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=max_tokens)
    tokenizer.enable_padding(**pad)
    return tokenizer


def mean_pooling(states, mask):
    expanded = np.expand_dims(mask, -1)
    return np.sum(states * expanded, axis=1) / np.clip(np.sum(expanded, axis=1), a_min=1e-9, a_max=None)


def embed(session, tokenizer, texts):
    """Returns embeddings pooled by hand from the hidden states, and those pooled by the model itself."""
    encodings = tokenizer.encode_batch(texts)
    inputs = {
        "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
        "attention_mask": np.array([encoding.attention_mask for encoding in encodings], np.int64),
    }
    outputs = session.run(None, inputs)
    pooled = mean_pooling(outputs[0], inputs["attention_mask"])
    by_hand = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    names = [output.name for output in session.get_outputs()]
    return by_hand, outputs[names.index("sentence_embedding")]


def cosines(left, right):
    left, right = left.astype(np.float64), right.astype(np.float64)
    return np.sum(left * right, axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


def run_longest(session, length):
    """Runs a sequence of the maximum length."""
    ids = np.full((1, length), 1000, np.int64)
    outputs = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return {"shape": list(outputs[0].shape), "finite": all(bool(np.isfinite(output).all()) for output in outputs)}


def main():
    folder, reference, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    texts, expected, max_tokens = read_reference(reference)
    chosen = np.linspace(0, len(texts) - 1, count).astype(int)
    texts, expected = [texts[index] for index in chosen], expected[chosen]
    session = onnxruntime.InferenceSession(str(folder / "model_quantized.onnx"), providers=["CPUExecutionProvider"])
    tokenizer = load_tokenizer(folder / "tokenizer.json", max_tokens)

    alone = [embed(session, tokenizer, [text]) for text in texts]
    alone = [np.concatenate(rows) for rows in zip(*alone, strict=True)]
    batches = [texts[start : start + BATCH] for start in range(0, count, BATCH)]
    batched = [embed(session, tokenizer, batch) for batch in batches]
    batched = [np.concatenate(rows) for rows in zip(*batched, strict=True)]
    norms = np.linalg.norm(np.concatenate([alone[1], batched[1]]).astype(np.float64), axis=1)
    report = {
        "runtime": onnxruntime.__version__,
        "inputs": {each.name: each.type for each in session.get_inputs()},
        "outputs": [each.name for each in session.get_outputs()],
        "embedding_type": str(alone[1].dtype),
        "embedding_shape": list(alone[1].shape),
        "pytorch_alone": cosines(alone[0], expected).min(),
        "pytorch_batched": cosines(batched[0], expected).min(),
        "alone_batched": cosines(alone[0], batched[0]).min(),
        "hand_model": min(cosines(alone[0], alone[1]).min(), cosines(batched[0], batched[1]).min()),
        "norm_error": np.abs(norms - 1).max(),
        "longest": run_longest(session, 512),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
