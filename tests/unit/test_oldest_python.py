# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on managed hosts compiles and imports with the oldest Python there is: 3.9, if it is found."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
FILES = sorted((PLUGINS / "module_utils").glob("*.py"))


def _oldest() -> str | None:
    for minor in range(9, 11):
        installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/python3"))
        found = shutil.which(f"python3.{minor}") if not installed else str(installed[-1])
        if found and subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode == 0:
            return found
    return None


OLDEST = _oldest()


@pytest.mark.skipif(OLDEST is None, reason="no Python 3.9 or 3.10 found")
def test_the_host_s_half_runs_with_the_oldest_python(tmp_path: Path) -> None:
    script = "import sys\nfor path in sys.argv[1:]:\n    compile(open(path, encoding='utf-8').read(), path, 'exec', dont_inherit=True)\n"
    subprocess.run([str(OLDEST), "-c", script, *map(str, FILES)], check=True)
    # As a package of its own: the collection's other plugins and Ansible are not there.
    shutil.copytree(PLUGINS / "module_utils", tmp_path / "half")
    (tmp_path / "half" / "__init__.py").touch()
    names = ", ".join(path.stem for path in FILES)
    code = (
        f"from half import {names}\nhome = release_home.ReleaseHome({str(tmp_path / 'root')!r}, 'x')\nwith home.locked(1): home.fence(1)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    subprocess.run([str(OLDEST), "-c", code], check=True, cwd=tmp_path, env={**environment, "PYTHONPATH": str(tmp_path)})
