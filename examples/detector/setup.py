"""Generates detector/stubs from the .proto files of the service when the package is built."""

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROTO = Path(__file__).resolve().parents[2] / "proto"
FILES = ["embedd/v1/embedding.proto", "google/rpc/status.proto"]
PACKAGE = "detector.stubs"


def generate(output: Path) -> None:
    import grpc_tools
    from grpc_tools import protoc

    output.mkdir(parents=True, exist_ok=True)
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={output}", f"--pyi_out={output}"]
    if protoc.main([*arguments, f"--grpc_python_out={output}", *FILES]) != 0:
        raise SystemExit(f"cannot generate stubs from {PROTO}")
    # Stubs import each other by the names of the protocol's packages. Move them into ours to avoid top-level names.
    for file in [*output.rglob("*.py"), *output.rglob("*.pyi")]:
        text = file.read_text()
        file.write_text(re.sub(r"^from (embedd\.v1|google\.rpc) import", rf"from {PACKAGE}.\1 import", text, flags=re.M))


class BuildWithStubs(build_py):
    def run(self) -> None:
        super().run()
        generate(Path(self.build_lib, *PACKAGE.split(".")))


setup(cmdclass={"build_py": BuildWithStubs})
