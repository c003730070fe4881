# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Python keeps beside a release's sources runs in their place, so it is foreign unless it is what they compile to."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import sys
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import bytecode
from ansible_collections.tidegate.release.plugins.module_utils.release_facts import release_facts
from bed import Host, package

SOURCE = b'''
import os

WANTED = {"a", "b", "c", 1, 1.0, (2, -0.0)}


class Service:
    """Serves."""

    def run(self, name: str = "x", *more: int, **rest: float) -> object:
        assert name not in {"q", "r", "s"}
        try:
            return [lambda value: value + 1 for _ in more]
        except (OSError, ValueError):
            return f"{name!r:>10} {rest}"
'''
ONE = package(files={"lib/service.py": SOURCE, "lib/other.py": b"VALUE = 1\n"})
TAG = sys.implementation.cache_tag


@pytest.fixture
def tree(host: Host) -> Path:
    host.deploy(ONE)
    return host.tree(ONE)


def extra(host: Host) -> list[str]:
    (entry,) = release_facts(str(host.root))
    found: list[str] = entry["extra"]
    return found


def compiled(tree: Path, source: str = "lib/service.py", **options: object) -> Path:
    return Path(py_compile.compile(str(tree / source), doraise=True, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", list(py_compile.PycInvalidationMode))
def test_what_a_source_compiles_to_is_its_own(host: Host, tree: Path, mode: py_compile.PycInvalidationMode) -> None:
    for level in (0, 1, 2):
        compiled(tree, optimize=level, invalidation_mode=mode)
    assert len(list((tree / "lib" / "__pycache__").iterdir())) == 3
    assert extra(host) == []


def test_code_of_another_source_is_foreign_whatever_it_says_of_its_own(host: Host, tree: Path) -> None:
    right, foreign = compiled(tree, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH), compiled(tree, "lib/other.py")
    code = compile(SOURCE.replace(b"value + 1", b"value + 2"), "service.py", "exec")
    right.write_bytes(right.read_bytes()[:16] + marshal.dumps(code))
    assert foreign.exists()
    assert extra(host) == [f"lib/__pycache__/service.{TAG}.pyc"]


def test_one_that_breaks_whoever_reads_it_is_foreign_and_the_others_are_looked_at(host: Host, tree: Path) -> None:
    broken, good = compiled(tree, "lib/other.py"), compiled(tree)
    head = good.read_bytes()[:16]
    for data in (head, head + b"(" + b"\xff" * 4, head + b"\xe3" + b"\xff" * 40, b"", head + b"[" * 100000):
        broken.write_bytes(data)
        assert extra(host) == [f"lib/__pycache__/other.{TAG}.pyc"]


def test_a_process_that_ends_leaves_the_rest_to_another(monkeypatch: pytest.MonkeyPatch, host: Host, tree: Path) -> None:
    compiled(tree)
    compiled(tree, "lib/other.py")
    asked: list[int] = []

    def right(_python: str, pairs: list[object]) -> tuple[set[int], bool]:
        asked.append(len(pairs))
        return (set(), False) if len(pairs) == 2 else ({0}, True)

    monkeypatch.setattr(bytecode, "_right", right)
    assert extra(host) == [f"lib/__pycache__/other.{TAG}.pyc"]
    assert asked == [2, 1]


def test_without_its_source_it_is_foreign(host: Host, tree: Path) -> None:
    cache = compiled(tree).parent
    (cache / f"service.{TAG}.pyc").rename(cache / f"nobody.{TAG}.pyc")
    compiled(tree, "lib/other.py").rename(cache / "other.pyc")
    assert extra(host) == [f"lib/__pycache__/nobody.{TAG}.pyc", "lib/__pycache__/other.pyc"]


def test_of_a_source_that_was_changed_it_is_foreign_too(host: Host, tree: Path) -> None:
    (tree / "lib" / "other.py").write_text("VALUE = 2\n")
    compiled(tree, "lib/other.py")
    (entry,) = release_facts(str(host.root))
    assert (entry["changed"], entry["extra"]) == (["lib/other.py"], [f"lib/__pycache__/other.{TAG}.pyc"])


def test_one_of_a_python_that_is_not_here_is_foreign(host: Host, tree: Path) -> None:
    path = compiled(tree)
    path.rename(path.with_name("service.cpython-399.pyc"))
    assert extra(host) == ["lib/__pycache__/service.cpython-399.pyc"]
    data = path.with_name("service.cpython-399.pyc").read_bytes()
    assert data[:4] == importlib.util.MAGIC_NUMBER
    path.write_bytes(b"\0\0\r\n" + data[4:])
    assert f"lib/__pycache__/service.{TAG}.pyc" in extra(host)


def test_the_python_that_made_it_is_asked_and_none_out_of_a_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bytecode, "_PLACES", (str(tmp_path),))
    assert bytecode._python_of(str(TAG)) == sys.executable
    assert bytecode._python_of("cpython-399") is None
    (tmp_path / "python3.99").touch(0o755)
    assert bytecode._python_of("cpython-399") == str(tmp_path / "python3.99")
    assert bytecode._python_of("pypy-39") is None or os.access(str(bytecode._python_of("pypy-39")), os.X_OK)
