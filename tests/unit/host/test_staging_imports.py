# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each step is a process of its own on each host, so what it imports is paid for by every host, every time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins import module_utils
from bed import package

ONE = package("1.0")
# What takes a millisecond or more to import, alone or by what it brings along.
LARGE = frozenset(
    {
        *("ctypes", "dataclasses", "datetime", "email", "gzip", "http", "inspect", "shutil", "socket", "ssl"),
        *("subprocess", "tempfile", "urllib.request"),
    }
)
STEP = """
import json, sys
sys.path.insert(0, sys.argv[1])
from half.release_home import ReleaseHome
step, root, digest = sys.argv[2:5]
documents = [open(path, "rb").read() for path in sys.argv[5:8]]
home = ReleaseHome(root, "hello")
with home.locked(1):
    if step == "stage":
        from half.staging import stage
        answer = stage(home, digest, documents, open(sys.argv[8], "rb"), 3, [], 1, "hello-1")
    else:
        from half import activation
        answer = getattr(activation, step)(home, digest, None, activation.Order("hello-1", 1, {}))
print(json.dumps([answer["state"], sorted(sys.modules)]))
"""


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """The directory with what runs on hosts as a package of its own."""
    shutil.copytree(module_utils.__path__[0], tmp_path / "half", ignore=shutil.ignore_patterns("__pycache__", "lab"))
    (tmp_path / "half" / "__init__.py").touch()
    return tmp_path


def _run(half: Path, step: str) -> tuple[str, set[str]]:
    """How the step ended with the release :data:`ONE`, and what it imported."""
    names = []
    for number, text in enumerate((*ONE.documents, ONE.pack(sorted(ONE.contents)))):
        names.append(half / f"document-{number}")
        names[-1].write_bytes(text)
    command: list[Any] = [sys.executable, "-I", "-S", "-c", STEP, half, step, half / "root", ONE.digest, *names]
    state, modules = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return state, set(modules)


@pytest.mark.usefixtures("no_orphans")
def test_no_step_imports_what_is_large_and_only_others_need(half: Path) -> None:
    outcomes = {step: _run(half, step) for step in ("stage", "activate", "confirm", "back_out")}
    assert [state for state, _modules in outcomes.values()] == ["staged", "started", "active", "backed_out"]
    # The one to bring a file system to disk, the other to run hooks and to adopt what they leave.
    for step, (_state, modules) in outcomes.items():
        assert modules & LARGE == ({"ctypes"} if step == "stage" else {"ctypes", "subprocess"})
