# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SBOM of a release of Tidegate names each library that was tested, its licence and who needs it, or there is no release."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def components() -> ModuleType:
    spec = importlib.util.spec_from_file_location("components", ROOT / "tools" / "components.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def libraries(components: ModuleType) -> dict[str, Any]:
    return dict(components.needed(ROOT / "requirements"))


@pytest.fixture(scope="module")
def listed(components: ModuleType, libraries: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The SBOM of a payload of one file, before its libraries are connected."""
    payload = tmp_path_factory.mktemp("payload")
    (payload / "file").write_text("1\n")
    return dict(components.list_components(libraries, payload, "1.0"))


def test_each_library_has_a_licence_and_its_place_in_a_graph_without_loose_ends(
    components: ModuleType, libraries: dict[str, Any], listed: dict[str, Any]
) -> None:
    document = copy.deepcopy(listed)
    components.connect(document, libraries)
    components.sbom.check(json.dumps(document).encode(), "the SBOM")
    found = {one["purl"].removeprefix("pkg:pypi/").partition("@")[0]: one for one in document["components"] if "purl" in one}
    assert {"ansible-core", "molecule", "markupsafe", "psycopg-binary"} <= set(found)
    assert all(one["licenses"] and one["version"] for one in found.values())
    assert [found[name]["scope"] for name in ("ansible-core", "markupsafe", "requests", "urllib3")] == ["required"] * 2 + ["optional"] * 2
    assert [one["name"] for one in document["components"] if one["type"] == "file"] == ["file"]
    graph = {one["ref"]: set(one["dependsOn"]) for one in document["dependencies"]}
    assert set(graph) == {"release", *(one["bom-ref"] for one in found.values())}
    assert found["jinja2"]["bom-ref"] in graph[found["ansible-core"]["bom-ref"]]
    assert {found[name]["bom-ref"] in graph["release"] for name in ("ansible-core", "requests")} == {True}
    assert found["markupsafe"]["bom-ref"] not in graph["release"]
    reached, left = set(), ["release"]
    while left:
        reached.add(one := left.pop())
        left += graph[one] - reached
    assert reached == set(graph)


def test_the_same_files_have_the_same_sbom(
    components: ModuleType, libraries: dict[str, Any], listed: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("1\n")
    assert components.list_components(components.needed(ROOT / "requirements"), tmp_path, "1.0") == listed


def test_a_library_without_a_known_licence_is_no_release(
    components: ModuleType, libraries: dict[str, Any], listed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever it is: no entry is of a library that says its licence itself, or is not needed any more."""
    entered = dict(components.LICENCES)
    for name in entered:
        monkeypatch.setattr(components, "LICENCES", {other: licence for other, licence in entered.items() if other != name})
        with pytest.raises(SystemExit) as ended:
            components.connect(copy.deepcopy(listed), libraries)
        assert str(ended.value) == (
            f"{name} {libraries[name].installed.version} does not say which licence it has; read its file of licences, and enter it in "
            "LICENCES of tools/components.py as an SPDX expression"
        )


def test_a_library_that_is_missing_or_was_not_tested_is_no_release(
    components: ModuleType, libraries: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "base.txt").write_text("nothing-of-that-name >=1 # for nothing\n")
    with pytest.raises(SystemExit, match=r"^nothing-of-that-name is not installed, and base.txt needs it; install it: make dev$"):
        components.needed(tmp_path)
    constraints = tmp_path / "constraints.txt"
    tested = {name: library.installed.version for name, library in libraries.items()}
    for version, sentence in (
        (tested["jinja2"], None),
        ("3.0", f"jinja2 {tested['jinja2']} is installed, and constraints.txt has ==3.0; install that: make dev"),
        (None, "constraints.txt has no version of jinja2, which is needed; renew it: make constraints"),
    ):
        constraints.write_text("".join(f"{name}=={exact}\n" for name, exact in {**tested, "jinja2": version}.items() if exact))
        if sentence is None:
            components.check_versions(libraries, constraints)
        else:
            with pytest.raises(SystemExit, match=f"^{re.escape(sentence)}$"):
                components.check_versions(libraries, constraints)
