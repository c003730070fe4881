# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install this checkout, and what it needs, beside the Python that runs this; again, to upgrade.

The collection goes into site-packages, where Ansible and Python both look without any setting. Between releases its version says which
commit it is of, so that two checkouts are never taken for the same: ansible-galaxy by itself leaves what has the version that is there.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_VERSION = re.compile(r"(?m)^version: *(\S+)$")
_PLUGIN = "tidegate.release.controller"
_COMMAND = """\
#!{python}
import sys

from ansible_collections.tidegate.release.plugins.plugin_utils.command.main import main

sys.exit(main())
"""
_IGNORED = re.compile(r'(?m)^  - "?([^"\n]+?)"?$')


def version_of(root: Path) -> str:
    """The collection's version: that of galaxy.yml for what is tagged with it or is no Git checkout, else one of the commit's own.

    ``0.2.0-dev.57+g1a2b3c4`` is the 57th commit on the way to 0.2.0; ``.changed`` at its end says that files are not as committed.
    """
    base = written_version(root)
    if _git(root, "rev-parse", "--show-prefix") != "":  # None: no checkout; a path: part of somebody else's
        return base
    commit, count = _git(root, "rev-parse", "--short", "HEAD"), _git(root, "rev-list", "--count", "HEAD")
    if commit is None or count is None:
        return base
    changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    if not changed and tagged(root, base):
        return base
    return f"{base}-dev.{count}+g{commit}{'.changed' if changed else ''}"


def written_version(root: Path) -> str:
    """The version in galaxy.yml."""
    match = _VERSION.search((root / "galaxy.yml").read_text())
    if match is None:
        raise SystemExit(f"{root / 'galaxy.yml'} has no line 'version: …'; take the file from a fresh clone")
    return match[1]


def tagged(root: Path, version: str) -> bool:
    """Whether this commit is tagged as that version."""
    return f"v{version}" in (_git(root, "tag", "--points-at", "HEAD") or "").split()


def _git(root: Path, *arguments: str) -> str | None:
    """What git says, or None when it is not there or has nothing to say about this directory."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def install_collection(root: Path, target: Path) -> str:
    """Install the collection in ``root`` below ``target``, in place of what is there; return its version."""
    version = version_of(root)
    galaxy = (root / "galaxy.yml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "collection")
        shutil.copytree(root, copy, symlinks=True, ignore=_left_out(root, _IGNORED.findall(galaxy.partition("build_ignore:")[2])))
        (copy / "galaxy.yml").write_text(_VERSION.sub(f"version: {version}", galaxy, count=1))
        done = _ansible("galaxy", "collection", "install", "--force", "--offline", str(copy), "-p", str(target))
    if done.returncode != 0:
        raise SystemExit(f"ansible-galaxy could not install the collection:\n{done.stdout.strip()}\n{done.stderr.strip()}")
    return version


def _left_out(root: Path, patterns: list[str]) -> Callable[[str, list[str]], set[str]]:
    """What is not copied: of the top level what ``patterns`` name, which ansible-galaxy would leave out itself, and bytecode."""
    at_top, anywhere = shutil.ignore_patterns(*patterns), shutil.ignore_patterns("__pycache__")
    return lambda folder, names: (at_top if Path(folder) == root else anywhere)(folder, names)


def install_command(folder: Path) -> None:
    """Put the command ``tidegate`` into ``folder``, which is that of this Python's scripts."""
    path = folder / "tidegate"
    path.write_text(_COMMAND.format(python=sys.executable))
    path.chmod(0o755)


def found_first(target: Path) -> str:
    """The directory of the collection that Ansible takes when it is not the one below ``target``, else nothing."""
    done = _ansible("doc", "--type", "lookup", "--json", _PLUGIN)
    if done.returncode != 0:
        raise SystemExit(f"Ansible does not find the collection that was installed:\n{done.stderr.strip()}")
    found = Path(json.loads(done.stdout)[_PLUGIN]["doc"]["filename"]).resolve().parents[2]
    return "" if found == (target / "ansible_collections" / "tidegate" / "release").resolve() else str(found)


def _ansible(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ansible", *arguments],
        env={**os.environ, "ANSIBLE_GALAXY_COLLECTIONS_PATH_WARNING": "false"},
        check=False,
        capture_output=True,
        text=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Install this checkout, and what it needs, beside the Python that runs this.")
    parser.add_argument("--collection", action="store_true", help="the collection only, without the libraries that it needs")
    only_collection = parser.parse_args().collection
    if not only_collection:
        if sys.prefix == sys.base_prefix and os.geteuid() != 0:
            raise SystemExit("This Python is the system's; make a virtual environment first: python3 -m venv ~/tidegate")
        requirements = ["-r", str(ROOT / "requirements.txt"), "-c", str(ROOT / "constraints.txt")]
        if subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", *requirements], check=False
        ).returncode:
            raise SystemExit("pip could not install requirements.txt; what it says above is why")
    target = Path(sysconfig.get_path("purelib"))
    version = install_collection(ROOT, target)
    install_command(Path(sysconfig.get_path("scripts")))
    # Who runs it may have no right to keep what Python compiles.
    compileall.compile_dir(target / "ansible_collections" / "tidegate" / "release" / "plugins", quiet=2)
    if other := found_first(target):
        raise SystemExit(f"tidegate.release {version} is installed, but Ansible takes the one in {other}; remove that directory")
    print(f"tidegate.release {version} is installed in {sys.prefix}")


if __name__ == "__main__":
    main()
