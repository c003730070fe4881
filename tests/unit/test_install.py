# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever has a newer checkout and installs it has the newer collection, and can see which one it is."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "ansible_collections/tidegate/release/"


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "tools" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A Git checkout with the smallest collection that can be installed."""
    root = tmp_path / "checkout"
    plugin = Path("plugins", "lookup", "controller.py")
    (root / plugin.parent).mkdir(parents=True)
    (root / plugin).write_text((ROOT / plugin).read_text())
    (root / "galaxy.yml").write_text((ROOT / "galaxy.yml").read_text())
    (root / "README.md").write_text("one\n")
    (root / "LICENSE").write_text("as it is\n")
    git(root, "init", "-q")
    commit(root)
    return root


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=rita", "-c", "user.email=rita@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "A change")


def test_each_commit_has_a_version_of_its_own_that_rises(install: ModuleType, checkout: Path) -> None:
    first = install.version_of(checkout)
    commit(checkout)
    assert [first.partition("+")[0], install.version_of(checkout).partition("+")[0]] == ["0.1.0-dev.1", "0.1.0-dev.2"]
    assert install.version_of(checkout).endswith(git(checkout, "rev-parse", "--short", "HEAD"))


def test_what_is_not_committed_shows(install: ModuleType, checkout: Path) -> None:
    (checkout / "README.md").write_text("two\n")
    assert install.version_of(checkout).endswith(".changed")


def test_only_the_tagged_commit_itself_has_the_version_of_the_release(install: ModuleType, checkout: Path) -> None:
    git(checkout, "tag", "v0.1.0")
    assert install.version_of(checkout) == "0.1.0"
    (checkout / "README.md").write_text("two\n")
    assert install.version_of(checkout) != "0.1.0"
    commit(checkout)
    assert install.version_of(checkout).startswith("0.1.0-dev.2+")


def test_a_copy_without_git_has_the_version_of_its_file(install: ModuleType, checkout: Path) -> None:
    inner = checkout / "inner"
    inner.mkdir()
    (inner / "galaxy.yml").write_text("version: 7.0.0\n")
    assert install.version_of(inner) == "7.0.0", "the commits around it are not its own"
    (inner / "galaxy.yml").write_text("namespace: tidegate\n")
    with pytest.raises(SystemExit, match="no line 'version"):
        install.version_of(inner)


def test_a_newer_checkout_replaces_what_is_installed(install: ModuleType, checkout: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    for text in ("one\n", "two\n"):
        (checkout / "README.md").write_text(text)
        commit(checkout)
        version = install.install_collection(checkout, target)
        installed = target / "ansible_collections" / "tidegate" / "release"
        assert (installed / "README.md").read_text() == text
        assert json.loads((installed / "MANIFEST.json").read_text())["collection_info"]["version"] == version
    assert not git(checkout, "status", "--porcelain"), "the checkout is as it was"


def test_another_copy_that_ansible_takes_first_is_named(
    install: ModuleType, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    install.install_collection(checkout, old)
    install.install_collection(checkout, new)
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", f"{old}{os.pathsep}{new}")
    assert install.found_first(new) == str(old / "ansible_collections" / "tidegate" / "release")
    assert install.found_first(old) == ""


def test_it_can_be_run_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "install.py"), "--help"], cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode == 0


def test_pip_brings_the_command_and_the_collection_with_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    elsewhere = shutil.ignore_patterns(".*", "build", "tests", "collections")
    shutil.copytree(ROOT, source, ignore=lambda folder, names: elsewhere(folder, names) if Path(folder) == ROOT else set())
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=source, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("tidegate-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
        archive.extractall(tmp_path / "there")
    inside = {name.removeprefix(COLLECTION) for name in names if name.startswith(COLLECTION)}
    wanted = set(git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines())
    shipped = {name for name in wanted if name.partition("/")[0] in {part.partition("/")[0] for part in inside}}
    assert inside == shipped
    assert "__pycache__" not in " ".join(names)
    needed = set(re.findall(r"(?m)^Requires-Dist: ([\w.-]+)", about))
    assert {"ansible-core", "sqlalchemy", "psycopg"} <= {name.lower() for name in needed}
    assert "Provides-Extra: postgres" in about
    program = "from ansible_collections.tidegate.release.plugins.plugin_utils.command.main import main; main(['--version'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "there")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "tidegate.release 0.1.0\n"
