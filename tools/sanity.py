# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ``ansible-test sanity`` on this checkout; arguments are passed on, such as ``--test validate-modules``.

ansible-test wants to stand in ``ansible_collections/tidegate/release``, so what git knows or would add is copied there, but for the
tests: nobody installs them, and ruff has looked at them by the rules of pylint.
It also downloads pip for the environments that its tests run in; here they get a copy of this environment's, so that
pip's registry stays the only thing needed. Without arguments two run side by side, as each uses one processor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from ansible_test._internal.host_configs import VirtualPythonConfig
from ansible_test._internal.python_requirements import get_venv_packages

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "sanity"
HOME = BUILD / "home"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# About as long as each other, and neither uses an environment that the other makes.
HALVES = {"pylint": ["--test", "pylint"], "others": ["--skip-test", "pylint"]}
_COPY_PIP = """\
import pathlib, shutil, sysconfig

for folder in {folders}:
    shutil.copytree(folder, pathlib.Path(sysconfig.get_path("purelib"), pathlib.Path(folder).name))
"""


def copy_checkout(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        own_test = name.startswith("tests/") and name != "tests/config.yml"  # which says what ansible-test tests
        if not own_test and (ROOT / name).is_file():  # a file that was removed but not yet committed is still listed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)  # or ansible-test asks this repository, which ignores build


def prepare_home() -> None:
    """A home of its own for ansible-test, with the pip bootstrap in its cache and the user's pip settings."""
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    version = get_venv_packages(VirtualPythonConfig(version=PYTHON))["pip"]
    pip = distribution("pip")
    folders = [str(pip.locate_file(name)) for name in ("pip", f"pip-{pip.version}.dist-info")]
    (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(_COPY_PIP.format(folders=folders))
    settings = Path("~/.config/pip").expanduser()
    link = HOME / ".config" / "pip"
    if settings.is_dir() and not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(settings)


def start(name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Run it in a copy of its own; pip's chatter goes to a log, and what the tests found to standard output."""
    copy = BUILD / name / "ansible_collections" / "tidegate" / "release"
    copy_checkout(copy)
    command = ["ansible-test", "sanity", "--lint", "--python", PYTHON, "--truncate", "0", *arguments]
    with log_of(name).open("w") as stream:
        return subprocess.Popen(command, cwd=copy, env=os.environ | {"HOME": str(HOME)}, stderr=stream)


def log_of(name: str) -> Path:
    return BUILD / f"{name}.txt"


def main() -> int:
    prepare_home()
    started = {name: start(name, arguments) for name, arguments in ({"asked": sys.argv[1:]} if sys.argv[1:] else HALVES).items()}
    failed = [name for name, process in started.items() if process.wait()]
    for name in failed:
        log = log_of(name)
        print(f"ansible-test sanity failed; {log.relative_to(ROOT)} ends with:", *log.read_text().splitlines()[-5:], sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
