# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images come out of the library as archived, and the release that a machine has is found by what was read."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive, load_package
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import Repository
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.images import image_file, image_of, release_that_runs
from releases import spoil, write_release

BIOS, BMC = ("BIOS", "a/bios.bin"), ("BMC", "b.bin")
SOFTWARE = ("health", "hooks", "settings", "licence")


@pytest.fixture
def home(tmp_path: Path) -> OciLayout:
    library = OciLayout.create(tmp_path / "dsl")
    for version, models in (("1.0", ["R750"]), ("1.1", ["R750", "R650"])):
        images = [
            {"component": component, "models": models, "image": image, "version": f"{component}-{version}"}
            | {"from": ["0"], "back_to": [], "takes_effect": "immediate"}
            for component, image in (BIOS, BMC)
        ]
        files = {image: f"{component} {version}".encode() for component, image in (BIOS, BMC)}
        said = {**dict.fromkeys(SOFTWARE, ...), "kind": "firmware", "firmware": images, "version": version}
        archive(write_release(tmp_path / version, files, **said), library.repository("hello"))
    return library


def test_a_machine_has_the_release_of_which_it_says_every_version(home: OciLayout) -> None:
    repository: Repository = home.repository("hello")
    digest = repository.resolve("hello", "1.0")
    has = {"BIOS": "BIOS-1.0", "BMC": "BMC-1.0"}
    assert release_that_runs(repository, "hello", "R750", has) == {"version": "1.0", "digest": digest}
    assert release_that_runs(repository, "hello", "R750", {"BMC": "BMC-1.0"}) == {"version": "1.0", "digest": digest}
    assert release_that_runs(repository, "hello", "R750", {**has, "BMC": "BMC-1.1"}) is None
    assert release_that_runs(repository, "hello", "R650", has) is None
    assert release_that_runs(repository, "hello", "R750", {}) is None


def test_an_image_is_a_file_with_its_own_name_and_content(home: OciLayout, tmp_path: Path) -> None:
    repository: Repository = home.repository("hello")
    found = image_of(repository, "hello", "R750", "BIOS", "BIOS-1.1")
    assert found
    path = image_file(repository, *found, tmp_path / "run")
    assert (path.name, path.read_bytes()) == ("bios.bin", b"BIOS 1.1")
    assert image_file(repository, *found, tmp_path / "run") == path
    assert image_of(repository, "hello", "R650", "BIOS", "BIOS-1.0") is None
    spoil(repository, load_package(repository, found[0]).payload.digest)  # type: ignore[arg-type]  # it is one in a directory
    with pytest.raises(IntegrityError, match=r"has another a/bios\.bin than its file index says"):
        image_file(repository, *found, tmp_path / "later")
    assert list((tmp_path / "later").rglob("bios.bin")) == []


@pytest.mark.parametrize("name", ["lock", "bios.unfinished"])
def test_an_image_may_be_called_what_we_call_files_of_our_own(tmp_path: Path, name: str) -> None:
    repository: Repository = OciLayout.create(tmp_path / "dsl").repository("hello")
    entry = {"component": "BIOS", "models": ["R750"], "image": name, "version": "1", "from": ["0"], "back_to": []}
    said = {**dict.fromkeys(SOFTWARE, ...), "kind": "firmware", "firmware": [{**entry, "takes_effect": "immediate"}]}
    archive(write_release(tmp_path / "release", {name: b"BIOS 1"}, **said), repository)
    found = image_of(repository, "hello", "R750", "BIOS", "1")
    assert found
    assert image_file(repository, *found, tmp_path / "run").read_bytes() == b"BIOS 1"
    assert [path.name for path in (tmp_path / "run").rglob("*.unfinished")] == ([name] if name != "lock" else [])
