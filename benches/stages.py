"""Shows which stages of the native engine the time of a running server goes to.

    embedd load --concurrency 1 --tokens 11 --skip-cache --duration 30s &
    python benches/stages.py --pid $(pgrep -x embedd) --seconds 8

Samples the server's threads with perf and assigns each sample to a stage by the source files of the functions that were
inlined there. `--folded FILE` also writes the samples for a flame graph, for example of
`inferno-flamegraph FILE > FILE.svg` (cargo install inferno). Needs perf, the permission to use it, a binary with debug
information (the release profile has it), and llvm-addr2line or addr2line.
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
    parser.add_argument("--folded", type=pathlib.Path, metavar="FILE", help="the stacks of inlined functions, folded")
    options = parser.parse_args()
    missing = [tool for tool in ("perf", "nm", ADDR2LINE) if shutil.which(tool) is None]
    if missing:
        sys.exit(f"NOTHING MEASURED: {', '.join(missing)} not installed")
    binary = pathlib.Path(f"/proc/{options.pid}/exe").resolve()
    samples = record(options.pid, options.seconds)
    places = {(function, offset) for _, function, offset, library in samples if library == str(binary)}
    stacks = inlined(binary, places)
    stages = [(thread, stage(*place, stacks)) for thread, *place in samples]
    print(f"{len(stages)} samples of {binary.name}, share of the time in percent:\n")
    print("| stage | the session's first thread | all threads |")
    print("|---|---|---|")
    everywhere = collections.Counter(name for _, name in stages)
    first = collections.Counter(name for thread, name in stages if thread.startswith("session-"))
    for name, count in everywhere.most_common():
        print(f"| {name} | {share(first[name], first)} | {share(count, everywhere)} |")
    if options.folded:
        folded = collections.Counter()
        for (thread, name), (_, function, offset, _) in zip(stages, samples, strict=True):
            functions = [short_name(inner) for inner, _ in reversed(stacks.get((function, offset), []))]
            folded[";".join(["the session's first thread" if thread.startswith("session-") else thread, name, *functions])] += 1
        options.folded.write_text("".join(f"{stack} {count}\n" for stack, count in sorted(folded.items())))


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


def inlined(binary, places):
    """The functions at each place, a function and an offset, with their source files; inlined ones come first."""
    symbols = run(["nm", str(binary)]).splitlines()
    starts = {words[2]: int(words[0], 16) for words in map(str.split, symbols) if len(words) == 3}
    known = sorted(place for place in places if place[0] in starts)
    addresses = [starts[function] + offset for function, offset in known]
    lines = run([ADDR2LINE, "-i", "-f", "-C", "-a", "-e", str(binary)], "\n".join(map(hex, addresses))).splitlines()
    stacks = []
    for line in lines:
        if line.startswith("0x") and " " not in line:
            stacks.append([])
            names = []
        else:
            # Names and files take turns.
            names.append(line)
            if len(names) == 2:
                stacks[-1].append(tuple(names))
                names = []
    return dict(zip(known, stacks, strict=True))


def short_name(function):
    """The last two parts of a path, without generic arguments and hashes."""
    while (plain := re.sub(r"<[^<>]*>", "", function)) != function:
        function = plain
    parts = [part for part in re.sub(r"::h[0-9a-f]{16}$", "", function).split("::") if part]
    return "::".join(parts[-2:]).replace(";", ",") or "?"


def run(command, text=None):
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


def stage(function, offset, library, stacks):
    if "libonnxruntime" in library:
        return "ONNX Runtime"
    if (function, offset) not in stacks:
        return "Linux and libraries"
    files = " ".join(file for _, file in stacks[function, offset])
    return next((name for part, name in STAGES if part in files), "other code")


if __name__ == "__main__":
    main()
