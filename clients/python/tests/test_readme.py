"""Runs the examples of the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import PATIENCE, Server

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(prompt_server: Server, number: int) -> None:
    code = EXAMPLES[number]
    assert "localhost:50051" in code
    if "import mteb" in code:
        pytest.skip("mteb is not installed, as it needs PyTorch")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code.replace("localhost:50051", prompt_server.address)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False)
    assert output.returncode == 0, output.stderr
