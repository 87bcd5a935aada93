"""Runs the script that fetches a bundle with commands that stand for the clients of registries and object stores."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CONTENTS = {"manifest.json": b"{}\n", "model_native.onnx": b"\0" * 1000}


def tarball(*folders, files=CONTENTS):
    """Returns a tarball with the same files in each folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, contents in [(folder + name, contents) for folder in folders for name, contents in files.items()]:
            entry = tarfile.TarInfo(name)
            entry.size = len(contents)
            archive.addfile(entry, io.BytesIO(contents))
    return buffer.getvalue()


# As `tar -C bundle .` and `embedd package` write it.
GOOD = tarball("./")
PACKAGE = tarball("onnx_models/all-mpnet-base-v2/")
TWO_BUNDLES = tarball("a/", "b/")
DAMAGED = GOOD[: len(GOOD) // 2]
NO_BUNDLE = tarball("./", files={"readme": b"hello"})


def sum_of(contents):
    return hashlib.sha256(contents).hexdigest()


# What the client downloads, the checksum, the command, and a part of the message; None: it succeeds.
CASES = {
    "a bundle": (GOOD, sum_of(GOOD), ["cp", "../source", "bundle.tar.gz"], None),
    "a package": (PACKAGE, sum_of(PACKAGE), ["cp", "../source", "package.tar.gz"], None),
    "another tarball": (NO_BUNDLE, sum_of(GOOD), ["cp", "../source", "bundle.tar.gz"], "has the sha256"),
    "half of a tarball": (DAMAGED, sum_of(GOOD), ["cp", "../source", "bundle.tar.gz"], "has the sha256"),
    "a damaged tarball": (DAMAGED, sum_of(DAMAGED), ["cp", "../source", "bundle.tar.gz"], "tar"),
    "not a bundle": (NO_BUNDLE, sum_of(NO_BUNDLE), ["cp", "../source", "bundle.tar.gz"], "in no folder"),
    "two bundles": (TWO_BUNDLES, sum_of(TWO_BUNDLES), ["cp", "../source", "."], "does not hold one bundle"),
    "no file": (GOOD, sum_of(GOOD), ["true"], "expected one file"),
    "two files": (GOOD, sum_of(GOOD), ["cp", "../source", "../other", "."], "expected one file"),
    "a failing client": (GOOD, sum_of(GOOD), ["cp", "../missing", "."], "the download failed"),
    "no checksum": (GOOD, None, ["cp", "../source", "bundle.tar.gz"], "BUNDLE_SHA256"),
    "a short checksum": (GOOD, sum_of(GOOD)[:40], ["cp", "../source", "bundle.tar.gz"], "64 digits"),
    "an uppercase checksum": (GOOD, sum_of(GOOD).upper(), ["cp", "../source", "bundle.tar.gz"], "lowercase"),
}


def run(path, script, folder, checksum, command):
    environment = {"PATH": path, **({"BUNDLE_SHA256": checksum} if checksum else {})}
    shell = shutil.which("sh", path=path)
    return subprocess.run([shell, script, *command], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def wrong(path, script, contents, checksum, command, message):
    """Returns what is wrong with a run of the script, or None."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "source").write_bytes(contents)
        (folder / "other").write_bytes(contents)
        # What an earlier attempt has left.
        (folder / "download").mkdir()
        (folder / "download" / "half").write_bytes(b"half")
        done = run(path, script, folder, checksum, command)
        bundle = folder / "bundle"
        if message is not None:
            if done.returncode == 0 or message not in done.stderr:
                return f"exit code {done.returncode}, {done.stderr!r}"
            return "there is a bundle" if bundle.exists() else None
        if done.returncode != 0:
            return done.stderr
        unpacked = {file.name: file.read_bytes() for file in bundle.iterdir()}
        if unpacked != CONTENTS or {file.name for file in folder.iterdir()} != {"source", "other", "bundle"}:
            return f"the bundle has {unpacked.keys()}, the folder {[file.name for file in folder.iterdir()]}"
        # A container that starts again does not download the bundle again.
        again = run(path, script, folder, checksum, ["false"])
        return again.stderr if again.returncode != 0 else None


def test(name, path, script):
    """Runs all cases with the shell and the programs of a path; returns whether one of them fails."""
    faults = {case: wrong(path, script, *details) for case, details in CASES.items()}
    for case, fault in faults.items():
        if fault:
            print(f"{script.name} with {name}: {case}: {fault}", file=sys.stderr)
    print(f"{script.name} with {name}: {len(CASES)} cases")
    return any(faults.values())


def main(script):
    script = Path(script).resolve()
    failed = test("this machine's sh and tar", os.environ["PATH"], script)
    if busybox := shutil.which("busybox"):
        with tempfile.TemporaryDirectory() as applets:
            subprocess.run([busybox, "--install", "-s", applets], check=True)
            failed = test("BusyBox", applets, script) or failed
    else:
        print("NOT TESTED: the script that fetches bundles in BusyBox, which the images have (Debian: busybox)")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
