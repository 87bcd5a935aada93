"""`python -m detector`: reads texts from arguments or standard input, and prints one JSON object per text."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from detector import BundleBasedDetector, EmbeddingService, LocalModel


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="detector", description="Finds texts close to known prompt injections.")
    parser.add_argument(
        "--server", default="127.0.0.1:50051", metavar="HOST:PORT", help="the embedd server [default: %(default)s]"
    )
    parser.add_argument("--ca", type=Path, metavar="FILE", help="CA certificates in PEM; enables TLS")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the bearer token")
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the fallback model: an unpacked tarball of `embedd package`",
    )
    parser.add_argument(
        "--deadline", type=float, default=0.05, metavar="SECONDS", help="deadline of a call [default: %(default)s]"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="COSINE",
        help="minimum cosine of an injection [default: %(default)s]",
    )
    parser.add_argument("--with-embedding", action="store_true", help="also print the embeddings")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts [default: the lines of standard input]")
    return parser.parse_args()


def lines() -> Iterator[str]:
    for line in sys.stdin:
        yield line.removesuffix("\n")


def main() -> None:
    given = arguments()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    token = given.token_file.read_text().strip() if given.token_file else None
    roots = given.ca.read_bytes() if given.ca else None
    service = EmbeddingService(given.server, given.deadline, token, roots)
    detector = BundleBasedDetector(service, LocalModel(given.model), threshold=given.threshold)
    for text in given.texts or lines():
        found = detector.detect(text)
        row = {
            "injection": found.is_injection,
            "score": round(found.score, 4),
            "nearest": found.nearest,
            "source": found.source,
        }
        if given.with_embedding:
            row["embedding"] = found.embedding.tolist()
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        # The reader has closed the pipe. Avoid another error when Python flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
