# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ``ansible-test sanity`` on this checkout; arguments are passed on, such as ``--test validate-modules``.

ansible-test wants to stand in ``ansible_collections/tidegate/release``, so what git knows or would add is copied there.
It also downloads pip for the environments that its tests run in; here they get the pip that comes with Python, so that
pip's registry stays the only thing needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ansible_test._internal.host_configs import VirtualPythonConfig
from ansible_test._internal.python_requirements import get_venv_packages

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "sanity"
COPY = BUILD / "ansible_collections" / "tidegate" / "release"
HOME = BUILD / "home"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def copy_checkout() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # a file that was removed but not yet committed is still listed
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)
    subprocess.run(["git", "init", "--quiet"], cwd=COPY, check=True)  # or ansible-test asks this repository, which ignores build


def prepare_home() -> None:
    """A home of its own for ansible-test, with the pip bootstrap in its cache and the user's pip settings."""
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    pip = get_venv_packages(VirtualPythonConfig(version=PYTHON))["pip"]
    (cache / f"get_pip_{pip.replace('.', '_')}.py").write_text("import ensurepip\n\nensurepip.bootstrap()\n")
    settings = Path("~/.config/pip").expanduser()
    link = HOME / ".config" / "pip"
    if settings.is_dir() and not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(settings)


def main() -> int:
    copy_checkout()
    prepare_home()
    command = ["ansible-test", "sanity", "--lint", "--python", PYTHON, "--truncate", "0", *sys.argv[1:]]
    log = BUILD / "log.txt"
    with log.open("w") as stream:  # pip's chatter; what the tests found goes to standard output
        status = subprocess.run(command, cwd=COPY, env=os.environ | {"HOME": str(HOME)}, stderr=stream, check=False).returncode
    if status:
        print(f"ansible-test sanity failed; {log.relative_to(ROOT)} ends with:", *log.read_text().splitlines()[-5:], sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
