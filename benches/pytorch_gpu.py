#!/usr/bin/env python3
"""Measures a sentence-transformers model in PyTorch: float16 on a GPU, float32 on the CPU.

    pip install -r benches/pytorch_gpu.txt
    python benches/pytorch_gpu.py --model MODEL_DIR [--device cuda|cuda:N|cpu] [--reference FILE]

MODEL_DIR is a sentence-transformers folder; `embedd fetch` prints it. Times are from token ids in the memory of the CPU
to embeddings in the memory of the CPU, of batches without padding, and the GPU is synchronized before and after each
run. `embedd bench` measures the same. Attention is PyTorch's scaled_dot_product_attention (SDPA). transformers has no
SDPA for MPNet, so this script adds it; `--attention eager` measures transformers' own.

With --reference (`reference.safetensors` of a bundle), it also compares the embeddings of all reference texts with
those of the reference set and, as in `embedd validate`, texts alone with the same texts in padded batches.

Prints one JSON object per line: the setup, then one for each length and batch, then the accuracy. deploy/prove-gpu.sh
runs this script. Exit codes: 0 done; 1 failed; 3 PyTorch cannot be imported or has no such device.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings

LENGTHS = (11, 128, 384)
BATCHES = (1, 8, 64, 256, 1024)
WARM_UP_RUNS = 3
MIN_RUNS = 3
PADDED_BATCH = 32
UNAVAILABLE = 3


def numbers(text):
    return tuple(int(part) for part in text.split(","))


class Model:
    def __init__(self, torch, folder, device, attention):
        from sentence_transformers import SentenceTransformer

        self.torch = torch
        self.device = torch.device(device)
        self.attention = attention
        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        try:
            self.model = SentenceTransformer(
                folder, device=device, model_kwargs={"dtype": dtype, "attn_implementation": attention}
            )
        except ValueError as error:
            if "does not support an attention implementation" not in str(error):
                raise
            self.model = SentenceTransformer(folder, device=device, model_kwargs={"dtype": dtype})
            self.attention = self.add_sdpa()
        self.model.eval()
        self.body = self.model[0].auto_model
        self.dtype = str(self.body.dtype).removeprefix("torch.")

    def add_sdpa(self):
        """Replaces the attention of MPNet by SDPA; returns the name of the implementation."""
        from transformers.models.mpnet import modeling_mpnet as mpnet

        attend = self.torch.nn.functional.scaled_dot_product_attention

        def forward(self, hidden_states, attention_mask=None, position_bias=None, output_attentions=False, **_):
            shape = (*hidden_states.shape[:-1], -1, self.attention_head_size)
            q, k, v = (linear(hidden_states).view(shape).transpose(1, 2) for linear in (self.q, self.k, self.v))
            # The bias is the same for all texts. Without padding there is no mask, and the bias is not copied for each.
            bias = position_bias[:1].expand(q.shape[0], -1, -1, -1)
            bias = bias if attention_mask is None else bias + attention_mask
            mixed = attend(q, k, v, attn_mask=bias).transpose(1, 2)
            return (self.o(mixed.reshape(hidden_states.shape)),)

        attentions = [module for module in self.model.modules() if isinstance(module, mpnet.MPNetSelfAttention)]
        if not attentions:
            return "eager"
        mpnet.MPNetSelfAttention.forward = forward
        return "sdpa, added to MPNet by pytorch_gpu.py"

    def synchronize(self):
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)

    def embed(self, ids):
        """Returns embeddings in the memory of the CPU."""
        on_device = ids.to(self.device)
        features = {"input_ids": on_device, "attention_mask": self.torch.ones_like(on_device)}
        return self.model(features)["sentence_embedding"].float().cpu()

    def milliseconds(self, ids):
        self.synchronize()
        started = time.perf_counter()
        self.embed(ids)
        self.synchronize()
        return (time.perf_counter() - started) * 1e3

    def measure(self, tokens, batch, arguments):
        """Returns the times of one length and batch size, or why there are none."""
        # Ids from the middle of the vocabulary are ordinary words. Their values do not affect the time.
        vocabulary = self.body.config.vocab_size
        ids = self.torch.randint(vocabulary // 4, vocabulary // 2, (batch, tokens))
        until = time.monotonic() + arguments.seconds
        measured = {"batch": batch, "tokens": tokens}
        try:
            for _ in range(WARM_UP_RUNS):
                self.milliseconds(ids)
            times = []
            while len(times) < MIN_RUNS or (len(times) < arguments.runs and time.monotonic() < until):
                times.append(self.milliseconds(ids))
        except self.torch.OutOfMemoryError as error:
            self.torch.cuda.empty_cache()
            return measured | {"error": str(error).splitlines()[0]}
        p50, p95 = statistics.median(times), sorted(times)[max(0, -(-len(times) * 95 // 100) - 1)]
        return measured | {
            "runs": len(times),
            "p50_ms": p50,
            "p95_ms": p95,
            "min_ms": min(times),
            "mean_ms": statistics.fmean(times),
        }

    def accuracy(self, reference):
        """Returns the cosines to a reference set, and those between texts alone and in padded batches."""
        from safetensors.numpy import load_file

        found = load_file(reference)
        texts = [json.loads(line)["text"] for line in found["texts"].tobytes().decode().strip("\n").split("\n")]
        expected = self.torch.from_numpy(found["embeddings"])

        def encode(texts, batch):
            encoded = self.model.encode(texts, batch_size=batch, convert_to_tensor=True, show_progress_bar=False)
            return self.torch.nn.functional.normalize(encoded.float().cpu(), dim=1)

        alone = self.torch.cat([encode([text], 1) for text in texts])
        # encode() would sort the texts by length, which leaves little padding.
        batches = [texts[start : start + PADDED_BATCH] for start in range(0, len(texts), PADDED_BATCH)]
        together = self.torch.cat([encode(batch, PADDED_BATCH) for batch in batches])
        cosines = (alone * self.torch.nn.functional.normalize(expected.float(), dim=1)).sum(dim=1)
        return {
            "texts": len(texts),
            "min_cosine": cosines.min().item(),
            "mean_cosine": cosines.mean().item(),
            "batch_agreement": (alone * together).sum(dim=1).min().item(),
        }


def show(value):
    print(json.dumps(value), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--lengths", type=numbers, default=LENGTHS)
    parser.add_argument("--batches", type=numbers, default=BATCHES)
    parser.add_argument("--runs", type=int, default=40, help="maximum runs per length and batch")
    parser.add_argument("--seconds", type=float, default=3.0, help="maximum seconds per length and batch")
    parser.add_argument("--reference", help="a reference set")
    arguments = parser.parse_args()

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.filterwarnings("ignore")
    try:
        import sentence_transformers
        import torch
        import transformers
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNAVAILABLE
    if arguments.device != "cpu" and not torch.cuda.is_available():
        print(f"error: PyTorch {torch.__version__} cannot use a GPU", file=sys.stderr)
        return UNAVAILABLE

    torch.manual_seed(0)
    with torch.inference_mode():
        model = Model(torch, arguments.model, arguments.device, arguments.attention)
        show(
            {
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "sentence_transformers": sentence_transformers.__version__,
                "dtype": model.dtype,
                "attention": model.attention,
                "device": arguments.device,
                "threads": torch.get_num_threads(),
                "cuda": torch.version.cuda if model.device.type == "cuda" else None,
            }
        )
        for tokens in arguments.lengths:
            for batch in arguments.batches:
                show(model.measure(tokens, batch, arguments))
        if arguments.reference:
            show({"accuracy": model.accuracy(arguments.reference)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
