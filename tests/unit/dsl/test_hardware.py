# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a release of hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.documents import DocumentError
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.hardware import PartChange
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import Manifest, load_manifest
from documents import simple_manifest, write_document

PART = {"slot": "PSU 1", "models": ["PSU-A"], "model": "PSU-B", "instructions": "README.md"}


def load(path: Path, *parts: dict[str, Any], **more: Any) -> Manifest:
    said = {"kind": "hardware", "payload": ..., "health": ..., "documentation": ["README.md"], "hardware": list(parts), **more}
    return load_manifest(write_document(path / "release.yml", simple_manifest(**said)))


def test_parts_are_read_and_are_the_same_from_the_config_of_a_package(tmp_path: Path) -> None:
    machine = {"models": ["R740"], "model": "R750", "instructions": "README.md"}
    found = load(tmp_path, PART, machine, {**PART, "slot": "PSU 2", "models": []})
    assert found.hardware[:2] == (PartChange("PSU 1", ("PSU-A",), "PSU-B", "README.md"), PartChange("", ("R740",), "R750", "README.md"))
    assert found.payload is None
    assert not found.has_tree
    assert Manifest.from_config(found.to_config()) == found
    found.check()


@pytest.mark.parametrize(
    ("parts", "more", "fault"),
    [
        ([PART, {**PART, "slot": "psu 1"}], {}, "hardware.1: the slot psu 1 is exchanged by hardware.0 already"),
        ([{**PART, "slot": "", "models": []}], {}, "slot"),
        ([{"models": [], "model": "R750", "instructions": "README.md"}], {}, "a machine can't come into an empty slot"),
        ([{**PART, "models": ["PSU-B"]}], {}, "PSU-B is in models too, so nothing would change there"),
        ([{**PART, "instructions": "else.md"}], {}, "hardware.0.instructions is else.md, which is not among the documentation"),
        ([PART], {"payload": "payload"}, "payload is about what goes on a host, and the release is hardware"),
        ([PART], {"settings": {"a": 1}}, "settings is about software on a host, and the release is hardware"),
        ([PART], {"kind": "firmware"}, "hardware is about parts, and the release is firmware; say kind: hardware, or leave it out"),
        ([PART], {"kind": ...}, "hardware is about parts, and the release is software"),
        ([{**PART, "model": "\x07"}], {}, "hardware.0.model"),
    ],
)
def test_what_can_not_be_is_refused(tmp_path: Path, parts: list[dict[str, Any]], more: dict[str, Any], fault: str) -> None:
    with pytest.raises(DocumentError) as error:
        load(tmp_path, *parts, **more)
    assert fault.partition(": ")[2] in str(error.value) or fault in str(error.value)
