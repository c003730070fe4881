# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which libraries are needed for what is written once, in requirements/, and the code, requirements.txt and the docs go by it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils import libs
from ansible_collections.tidegate.release.plugins.plugin_utils.libs import MissingLibraryError, lacking, require, required
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.load import needs_of_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import library_needs
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
NEEDS = sorted(path.stem for path in (ROOT / "requirements").glob("*.txt") if path.stem != "bindep")
# A program and a plugin of pytest: others start or load them.
STARTED = {"molecule", "pytest-testinfra"}
BASE_LIMIT = 40_000_000  # bytes of files, beside ansible-core's


def lines(need: str) -> list[Requirement]:
    """What a file of requirements says."""
    texts = ((ROOT / "requirements" / f"{need}.txt").read_text()).splitlines()
    return [Requirement(text) for text in (line.partition("#")[0].strip() for line in texts) if text]


def with_what_they_need(requirements: Iterable[Requirement]) -> dict[str, Distribution]:
    """The distributions that pip installs for these, by name."""
    found: dict[str, Distribution] = {}
    seen, left = set(), list(requirements)
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        if (name, *wanted.extras) in seen:
            continue
        seen.add((name, *wanted.extras))
        found[name] = distribution(wanted.name)
        for text in found[name].requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                left.append(needed)
    return found


@cache
def code() -> dict[str, list[ast.AST]]:
    """What the files of the controller say, by path, as far as it matters here."""
    kinds = (ast.Import, ast.ImportFrom, ast.Call, ast.FunctionDef)
    paths = [path for path in sorted((ROOT / "plugins").rglob("*.py")) if path.parts[-2] not in {"modules", "module_utils", "lab"}]
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}
    return {path: [node for node in ast.walk(tree) if isinstance(node, kinds)] for path, tree in trees.items()}


def imported() -> Iterator[tuple[str, str]]:
    """Each file of the controller's code with each library that it imports."""
    for path, nodes in code().items():
        for node in nodes:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"ansible", "ansible_collections"}:
                yield path, name


def test_what_the_code_imports_is_required_and_what_is_required_is_used() -> None:
    wanted = {canonicalize_name(one.name): one for need in NEEDS for one in lines(need)}
    there = {canonicalize_name(name) for name in with_what_they_need(wanted.values())}
    modules = packages_distributions()
    used = set()
    for path, name in imported():
        distributions = {canonicalize_name(one) for one in modules.get(name, ())}
        assert distributions & there, f"{path} imports {name}, which no file in requirements/ brings"
        used |= distributions
    assert wanted.keys() - used - {"ansible-core"} == STARTED


def test_requirements_txt_is_all_of_them_and_each_has_a_range_of_versions_that_was_tested() -> None:
    text = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in text if not line.startswith("#")] == [f"-r requirements/{need}.txt" for need in NEEDS]
    pinned = (Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#"))
    tested: dict[str, list[str]] = {}
    for one in pinned:
        tested.setdefault(canonicalize_name(one.name), []).extend(specifier.version for specifier in one.specifier)
    for need in NEEDS:
        for one in lines(need):
            assert any(one.specifier.contains(version) for version in tested[canonicalize_name(one.name)]), str(one)
            assert one.name in required(need), f"{one} has no oldest version"
    ranges: dict[str, set[str]] = {}
    for one in (one for need in NEEDS for one in lines(need)):
        ranges.setdefault(one.name, set()).add(str(one.specifier))
    assert all(len(said) == 1 for said in ranges.values()), "one library has one range"


def test_the_base_is_small() -> None:
    core = with_what_they_need([Requirement("ansible-core")])
    base = {name: one for name, one in with_what_they_need(lines("base")).items() if name not in core}
    sizes = {
        name: sum(path.stat().st_size for file in one.files or () if (path := Path(str(file.locate()))).exists())
        for name, one in base.items()
    }
    assert sum(sizes.values()) <= BASE_LIMIT, sizes


def test_every_need_that_the_code_names_is_a_file() -> None:
    named = set()
    for nodes in code().values():
        for node in nodes:
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                named |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
            elif isinstance(node, ast.FunctionDef) and node.name == "libraries":
                named |= {found.value for found in ast.walk(node) if isinstance(found, ast.Constant) and found.value in NEEDS}
    assert named == set(NEEDS)


def test_the_page_has_every_need() -> None:
    page = (ROOT / "docs" / "execution-environment.md").read_text()
    assert re.findall(r"(?m)^\| `([a-z]+)` \|", page) == NEEDS


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Needs of which something is missing, in a directory whose name a shell would split."""
    folder = tmp_path / "of ours"
    folder.mkdir()
    (folder / "base.txt").write_text("# a comment\nansible-core >=99\nno-such-thing[extra] >=1.2,<2 # why\npytest >=8,<10\n")
    (folder / "more.txt").write_text("packaging >=9999\nnor-such >=3\n")
    (folder / "verify.txt").write_text("molecule >=9999,<10000\n")
    (folder / "met.txt").write_text("pytest >=8,<10\n")
    monkeypatch.setattr(libs, "FOLDER", folder)
    lacking.cache_clear()
    yield folder
    lacking.cache_clear()


def test_all_that_is_missing_is_one_sentence_with_the_command_that_helps(few: Path) -> None:
    require("met")
    with pytest.raises(MissingLibraryError) as caught:
        require("base", "more", "met", "base")
    python = sys.executable
    assert str(caught.value) == (
        f"{python} lacks no-such-thing>=1.2 (base), packaging>=9999, nor-such>=3 (more); install that with {python} -m pip install -r "
        f"'{few}/base.txt' -r '{few}/more.txt', or run this in an execution environment made as docs/execution-environment.md says"
    )


def test_who_lacks_molecule_is_told_that_an_image_has_to_name_it(few: Path) -> None:
    with pytest.raises(MissingLibraryError, match="and name molecule there, for ansible-builder leaves it out of what collections require"):
        require("verify")


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({"dsl": "/srv/dsl", "cmdb": "cmdb.sqlite", "rfc": "rfc.yml", "policy": None}, ()),
        ({"dsl": "oci://registry.example/releases"}, ("registry",)),
        ({"dsl": "/srv/dsl", "to": "oci+http://registry.example/releases"}, ("registry",)),
        ({"dsl": "/srv/dsl", "replica": "oci://registry.example/releases"}, ("registry",)),
        ({"cmdb": "postgresql+psycopg://cmdb@db/cmdb"}, ("postgres",)),
        ({"cmdb": "postgresql://cmdb@db/cmdb"}, ("postgres",)),
        ({"cmdb": "postgresql+psycopg2://cmdb@db/cmdb"}, ()),
        ({"rfcs": ["rfc.yml", "servicenow+https://one.example/CHG0030001"]}, ("servicenow",)),
        (
            {"dsl": "oci://r.example/a", "cmdb": "postgres://cmdb@db/cmdb", "rfc": "servicenow+https://one.example/CHG0030001"},
            ("registry", "postgres", "servicenow"),
        ),
        ({"reason": "postgresql:// is gone"}, ()),
    ],
)
def test_what_addresses_need(options: dict[str, object], needs: tuple[str, ...]) -> None:
    assert library_needs(options) == needs


@pytest.mark.parametrize(
    ("policy", "needs"),
    [
        ("schema: 1\n", ()),
        ("calendars: {freezes: [a.ics]}\n", ("calendars",)),
        ("prometheus: {address: {file: a}}\ncalendars: {windows: [a.ics]}\n", ("calendars", "metrics")),
        ("calendars: {}\n", ()),
        ("- calendars\n", ()),
        ("calendars: [\n", ()),
        ("\x00", ()),
    ],
)
def test_what_a_policy_needs_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, needs: tuple[str, ...]
) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(policy)
    assert needs_of_policy(str(path)) == ()  # all is there
    monkeypatch.setattr(libs, "version", _nothing)
    lacking.cache_clear()
    try:
        assert needs_of_policy(str(path)) == needs
        assert needs_of_policy(str(tmp_path / "nothing")) == needs_of_policy(str(tmp_path)) == needs_of_policy(None) == ()
    finally:
        lacking.cache_clear()


def _nothing(name: str) -> str:
    raise PackageNotFoundError(name)
