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
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceError
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


def twin(tmp_path: Path, home: OciLayout, version: str, content: bytes) -> str:
    """A release with what 1.0 calls BIOS-1.0."""
    entry = {"component": "BIOS", "models": ["R750"], "image": "bios.bin", "version": "BIOS-1.0", "from": ["0"], "back_to": []}
    said = {**dict.fromkeys(SOFTWARE, ...), "kind": "firmware", "firmware": [{**entry, "takes_effect": "immediate"}], "version": version}
    return archive(write_release(tmp_path / version, {"bios.bin": content}, **said), home.repository("hello")).digest


def test_of_two_packages_that_say_one_version_it_is_the_installed_one(home: OciLayout, tmp_path: Path) -> None:
    repository: Repository = home.repository("hello")
    own, read = repository.resolve("hello", "1.0"), {"BIOS": "BIOS-1.0"}
    same = twin(tmp_path, home, "2.0", b"BIOS 1.0")
    assert release_that_runs(repository, "hello", "R750", read) == {"version": "2.0", "digest": same}  # its image is the same
    other = twin(tmp_path, home, "9.9-test", b"something else")
    for version, digest in (("1.0", own), ("2.0", same), ("9.9-test", other)):
        assert release_that_runs(repository, "hello", "R750", read, digest) == {"version": version, "digest": digest}
    for installed in (None, repository.resolve("hello", "1.1")):
        with pytest.raises(DeviceError, match=r"hello 9\.9-test and hello 2\.0 have BIOS BIOS-1\.0 for the R750 as different images"):
            release_that_runs(repository, "hello", "R750", read, installed)
    doubt = {"9.9-test": "9.9-test is not trusted", "2.0": "2.0 is not trusted"}
    found = release_that_runs(repository, "hello", "R750", read, None, lambda version, _digest: doubt.get(version, ""))
    assert found == {"version": "1.0", "digest": own}
    with pytest.raises(DeviceError, match="nobody could bring it back: not trusted"):
        release_that_runs(repository, "hello", "R750", read, None, lambda _version, _digest: "not trusted")
    assert release_that_runs(repository, "hello", "R750", read, own, lambda _version, _digest: "not trusted")  # back-out asks nobody


def test_an_image_is_a_file_with_its_own_name_and_content(home: OciLayout, tmp_path: Path) -> None:
    repository: Repository = home.repository("hello")
    digest = repository.resolve("hello", "1.1")
    assert digest
    image = image_of(repository, digest, "R750", "BIOS", "BIOS-1.1")
    assert image
    path = image_file(repository, digest, image, tmp_path / "run")
    assert (path.name, path.read_bytes()) == ("bios.bin", b"BIOS 1.1")
    assert image_file(repository, digest, image, tmp_path / "run") == path
    assert image_of(repository, digest, "R750", "BIOS", "BIOS-1.0") is None
    assert image_of(repository, digest, "R640", "BIOS", "BIOS-1.1") is None
    assert image_of(repository, f"sha256:{'0' * 64}", "R750", "BIOS", "BIOS-1.1") is None
    spoil(repository, load_package(repository, digest).payload.digest)  # type: ignore[arg-type]  # it is one in a directory
    with pytest.raises(IntegrityError, match=r"has another a/bios\.bin than its file index says"):
        image_file(repository, digest, image, tmp_path / "later")
    assert list((tmp_path / "later").rglob("bios.bin")) == []


@pytest.mark.parametrize("name", ["lock", "bios.unfinished"])
def test_an_image_may_be_called_what_we_call_files_of_our_own(tmp_path: Path, name: str) -> None:
    repository: Repository = OciLayout.create(tmp_path / "dsl").repository("hello")
    entry = {"component": "BIOS", "models": ["R750"], "image": name, "version": "1", "from": ["0"], "back_to": []}
    said = {**dict.fromkeys(SOFTWARE, ...), "kind": "firmware", "firmware": [{**entry, "takes_effect": "immediate"}]}
    digest = archive(write_release(tmp_path / "release", {name: b"BIOS 1"}, **said), repository).digest
    image = image_of(repository, digest, "R750", "BIOS", "1")
    assert image
    assert image_file(repository, digest, image, tmp_path / "run").read_bytes() == b"BIOS 1"
    assert [path.name for path in (tmp_path / "run").rglob("*.unfinished")] == ([name] if name != "lock" else [])
