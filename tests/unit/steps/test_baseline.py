# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there now and can't be brought back for want of a package is known before anybody asks a host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Control, Result
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from homes import NOW, Homes
from releases import write_release

OUTSIDE: dict[str, Any] = {"effect": "outside", "hooks": {"read": {"command": ["true"]}}}


@pytest.fixture
def homes(tmp_path: Path, write: Callable[..., Path]) -> Homes:
    return Homes(tmp_path, write)


def archived(homes: Homes, name: str, version: str, files: dict[str, bytes] | None = None, **changes: Any) -> str:
    folder = write_release(homes.path / f"{name}-{version}", files, name=name, version=version, **changes)
    return archive(folder, OciLayout(homes.dsl)).digest


def found(homes: Homes, name: str, version: str, digest: str) -> Control:
    clearing = homes.clear(release={"name": name, "version": version, "digest": digest})
    return next(control for control in clearing.clearance.controls if control.name == "baseline")


def test_software_that_is_its_tree_is_not_asked(homes: Homes) -> None:
    assert found(homes, "hello", "1.0", homes.digest).result is Result.NOT_APPLICABLE


def test_the_first_release_outside_needs_another_that_is_archived(homes: Homes) -> None:
    digest = archived(homes, "device", "2.0", **OUTSIDE)
    archived(homes, "device", "0.9")  # which nobody could be read to have
    control = found(homes, "device", "2.0", digest)
    assert control.result is Result.FAIL
    assert "it is the first device on db1 and 1 more, and no other version with effect: outside is archived" in control.reason
    archived(homes, "device", "1.0", **OUTSIDE)
    assert found(homes, "device", "2.0", digest).result is Result.PASS


def test_where_one_is_installed_or_was_read_none_is_needed(homes: Homes) -> None:
    digest = archived(homes, "device", "2.0", **OUTSIDE)
    with Cmdb.open(str(homes.cmdb)) as cmdb, cmdb.begin() as connection:
        cmdb.record_installations(connection, [{"ci": "web1", "release": "device", "version": "1.0", "digest": digest}], "test", NOW)
    assert "on db1, and no other" in found(homes, "device", "2.0", digest).reason
    put(homes, "db1", reads={"device": "2.0"})
    assert found(homes, "device", "2.0", digest).result is Result.PASS
    put(homes, "db1", reads={"device": "1.9"})
    assert found(homes, "device", "2.0", digest).result is Result.FAIL


def put(homes: Homes, name: str, **attributes: Any) -> None:
    with Cmdb.open(str(homes.cmdb)) as cmdb:
        cmdb.put_cis([{"name": name, "class": "server", "attributes": attributes}], "test")


def bios(homes: Homes, version: str, before: list[str], model: str = "R750") -> str:
    image = {"component": "BIOS", "models": [model], "image": "bios.bin", "version": version, "from": before, "back_to": before}
    said = {"kind": "firmware", "health": ..., "firmware": [{**image, "takes_effect": "immediate"}]}
    return archived(homes, "bios", version, {"bios.bin": version.encode()}, **said)


def test_firmware_that_could_go_back_needs_the_package_that_it_would_go_back_to(homes: Homes) -> None:
    put(homes, "web1", model="R750", firmware={"BIOS": "2.3"})
    put(homes, "db1", model="R750")
    digest = bios(homes, "2.4", ["2.3"])
    control = found(homes, "bios", "2.4", digest)
    assert control.result is Result.FAIL
    assert control.reason == "web1 has BIOS 2.3, and no archived version of bios has that for the R750"
    bios(homes, "2.3", ["2.2"], model="R650")
    assert found(homes, "bios", "2.4", digest).result is Result.FAIL


@pytest.mark.parametrize("version", ["2.3", "2.4", "2.0", None])
def test_firmware_that_is_there_archived_or_can_not_go_back_needs_none(homes: Homes, version: str | None) -> None:
    for name in ("web1", "db1"):
        put(homes, name, model="R750", firmware={"BIOS": version})
    digest = bios(homes, "2.4", ["2.3"])
    bios(homes, "2.3", ["2.2"])
    assert found(homes, "bios", "2.4", digest).result is Result.PASS
