"""Shows which stages of the native engine the time of a running server goes to.

    embedd load --concurrency 1 --tokens 11 --skip-cache --duration 30s &
    python benches/stages.py --pid $(pgrep -x embedd) --seconds 8

Samples the server's threads with perf and assigns each sample to a stage by the source files of the functions that were
inlined there. Needs perf, the permission to use it, a binary with debug information (the release profile has it), and
llvm-addr2line or addr2line.
"""

import argparse
import collections
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# The one of LLVM is many times as fast.
ADDR2LINE = shutil.which("llvm-addr2line") or "addr2line"

# The first match counts. Everything else in the kernels' folder of linear layers is a product.
STAGES = [
    ("linear/quantize.rs", "quantizing"),
    ("linear/bf16/rows.rs", "quantizing"),
    ("embedd-kernels/src/activation.rs", "activation"),
    ("embedd-kernels/src/attention", "attention"),
    ("embedd-kernels/src/elementwise", "norms, lookup, pooling"),
    ("embedd-kernels/src/linear", "products"),
    ("embedd-model/src/native", "other code of the engine"),
    ("tokenizers", "tokenizer"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pid", type=int, required=True, help="the server's process")
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    missing = [tool for tool in ("perf", "nm", ADDR2LINE) if shutil.which(tool) is None]
    if missing:
        sys.exit(f"NOTHING MEASURED: {', '.join(missing)} not installed")
    binary = pathlib.Path(f"/proc/{options.pid}/exe").resolve()
    samples = record(options.pid, options.seconds)
    files = source_files(binary, {(function, offset) for _, function, offset, library in samples if library == str(binary)})
    stages = [(thread, stage(*place, files)) for thread, *place in samples]
    print(f"{len(stages)} samples of {binary.name}, share of the time in percent:\n")
    print("| stage | the session's first thread | all threads |")
    print("|---|---|---|")
    everywhere = collections.Counter(name for _, name in stages)
    first = collections.Counter(name for thread, name in stages if thread.startswith("session-"))
    for name, count in everywhere.most_common():
        print(f"| {name} | {share(first[name], first)} | {share(count, everywhere)} |")


def share(count, counter):
    return f"{100 * count / max(1, counter.total()):.1f}"


def record(pid, seconds):
    """The thread, function, offset in the function and library of each sample."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "2999", "-p", str(pid), "-o", data]
        subprocess.run([*command, "--", "sleep", str(seconds)], check=True)
        command = ["perf", "script", "-i", data, "-F", "comm,ip,sym,symoff,dso", "--no-inline", "--no-demangle"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    # `session-0 1776acd function+0x12 (library)`
    pattern = re.compile(r"^\s*(.*?)\s+[0-9a-f]+ (.*?)(?:\+0x([0-9a-f]+))? \((.*)\)$")
    matches = filter(None, map(pattern.match, lines))
    return [(thread, function, int(offset or "0", 16), library) for thread, function, offset, library in
            (match.groups() for match in matches)]


def source_files(binary, places):
    """The source files of the functions inlined at each place, a function and an offset."""
    symbols = run(["nm", str(binary)]).splitlines()
    starts = {words[2]: int(words[0], 16) for words in map(str.split, symbols) if len(words) == 3}
    known = sorted(place for place in places if place[0] in starts)
    addresses = [starts[function] + offset for function, offset in known]
    lines = run([ADDR2LINE, "-i", "-f", "-a", "-e", str(binary)], "\n".join(map(hex, addresses))).splitlines()
    files, functions = [], 0
    for line in lines:
        if line.startswith("0x") and " " not in line:
            files.append([])
            functions = 0
        else:
            # Names and files take turns.
            functions += 1
            if functions % 2 == 0:
                files[-1].append(line)
    return dict(zip(known, map(" ".join, files), strict=True))


def run(command, text=None):
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


def stage(function, offset, library, files):
    if "libonnxruntime" in library:
        return "ONNX Runtime"
    if (function, offset) not in files:
        return "Linux and libraries"
    return next((name for part, name in STAGES if part in files[function, offset]), "other code")


if __name__ == "__main__":
    main()
