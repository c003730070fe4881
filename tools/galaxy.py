# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the collection's tarball, and have Galaxy's own importer look at it as it does when one is published.

The importer has an environment of its own, for it wants older libraries than we do. Its lint is left out: ``make lint-ansible`` is the same
one, by the same profile, without its time limit.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "galaxy"
IMPORTER = "galaxy-importer==0.4.44"
_COMPLAINT = re.compile(r"^(ERROR|WARNING|CRITICAL)\b.*", re.MULTILINE)


def build() -> Path:
    """The tarball as it would be published."""
    shutil.rmtree(BUILD / "tarball", ignore_errors=True)
    command = [sys.executable, "-m", "ansible", "galaxy", "collection", "build", "--output-path", str(BUILD / "tarball"), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    (tarball,) = (BUILD / "tarball").glob("*.tar.gz")
    return tarball


def importer() -> Path:
    """Python with the importer, and the ansible-core of this one."""
    wanted = [IMPORTER, *(f"{name}=={version(name)}" for name in ("ansible-core", "ansible-lint"))]
    python, made = BUILD / "venv" / "bin" / "python", BUILD / "venv" / "made"
    if not made.exists() or made.read_text() != str(wanted):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(BUILD / "venv")], check=True)
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", "-qq", *wanted], check=True)
        made.write_text(str(wanted))
    return python


def main() -> int:
    tarball, python = build(), importer()
    settings = {"GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "false", "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [str(python), "-m", "galaxy_importer.main", str(tarball)]
    done = subprocess.run(
        command, cwd=BUILD, env=os.environ | settings, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    complaints = [match[0] for match in _COMPLAINT.finditer(done.stdout)]
    if done.returncode or complaints:
        print(*(complaints or [done.stdout]), sep="\n")
    return 1 if done.returncode or complaints else 0


if __name__ == "__main__":
    sys.exit(main())
