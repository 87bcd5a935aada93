#!/usr/bin/env bash
# Proves that embedd runs on this machine's NVIDIA GPU, and measures it beside PyTorch: benches/prove_gpu.
#
#   cargo build --release
#   deploy/prove-gpu.sh [--quick] [--install-pytorch | --python PATH | --no-pytorch] [--embedd PATH] [--out FOLDER]
#   deploy/prove-gpu.sh --device cpu --model sentence-transformers/all-MiniLM-L6-v2    # the script itself, without a GPU
#
# Needs Python 3.10 or later with pip, and for the GPU NVIDIA's driver. --help lists all flags.
set -euo pipefail

# Replaces this shell, so that signals reach the program that ends the server.
PYTHONDONTWRITEBYTECODE=1 exec "${EMBEDD_PYTHON:-python3}" "$(dirname "$0")/../benches/prove_gpu" "$@"
