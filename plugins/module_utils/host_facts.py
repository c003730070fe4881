# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is made of, as a lab is compared with live by."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from typing import Any, Optional

_RELEASE_FILES = ("/etc/os-release", "/usr/lib/os-release")
_QUERIES = (
    ("dpkg-query", ["-W", "-f", "${db:Status-Status} ${Package}:${Architecture} ${Version}\\n"]),
    ("rpm", ["-qa", "--qf", "installed %{NAME}:%{ARCH} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\\n"]),
)
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/bin", "/bin"))


def host_facts() -> dict[str, Any]:
    """Operating system, version of Python, and packages; see the module ``tidegate.release.host_facts``."""
    return {"os": _operating_system(), "python": platform.python_version(), "packages": _packages()}


def _operating_system() -> Optional[dict[str, str]]:
    for path in _RELEASE_FILES:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                pairs = [line.strip().partition("=") for line in file if "=" in line and not line.startswith("#")]
            said = {key: " ".join(shlex.split(value)) for key, _equals, value in pairs}
        except (OSError, ValueError):
            continue
        if said.get("ID"):
            # A rolling distribution has no version.
            return {"id": said["ID"].lower(), "version": said.get("VERSION_ID", ""), "architecture": platform.machine()}
    return None


def _packages() -> Optional[dict[str, str]]:
    for program, arguments in _QUERIES:
        path = shutil.which(program, path=_PATH)
        if path:
            asked = subprocess.run([path, *arguments], env={**os.environ, "LC_ALL": "C.UTF-8"}, capture_output=True, check=False)
            rows = [line.split(" ") for line in asked.stdout.decode(errors="replace").splitlines()]
            found = {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}
            if asked.returncode == 0 and found:
                return found
    return None
