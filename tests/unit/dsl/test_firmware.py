# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release of firmware says for which devices its images are, and nothing that only software has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import package as packages
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.firmware import FirmwareImage, Minutes, images_for
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import Manifest, load_manifest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import Source, archive, load_package, manifests_of, read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError, IntegrityError
from releases import write_release

Write = Callable[..., Path]

BIOS: dict[str, Any] = {
    "component": "BIOS",
    "models": ["PowerEdge R750"],
    "image": "bios.bin",
    "version": "3.5a",
    "from": ["3.5", "00.1B.53"],
    "back_to": ["3.5"],
    "takes_effect": "host_reset",
    "minutes": {"transfer": 20, "silence": 15, "restart": 20},
}
SOFTWARE = ("health", "hooks", "settings")


def firmware(*images: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**dict.fromkeys(SOFTWARE, ...), "kind": "firmware", "firmware": list(images or [BIOS]), **changes}


def problems(path: Path) -> str:
    with pytest.raises(DocumentError) as error:
        load_manifest(path)
    return str(error.value)


def test_a_manifest_is_the_same_after_a_stay_in_the_library(write: Write) -> None:
    least = {key: value for key, value in BIOS.items() if key != "minutes"} | {"component": "NIC", "back_to": []}
    manifest = load_manifest(write("release", **firmware(BIOS, least)))
    assert [image.component for image in manifest.firmware] == ["BIOS", "NIC"]  # the order is that in which they are installed
    assert manifest.firmware[1].minutes == Minutes(20, 15, 20)
    assert manifest.health == ()
    assert not manifest.has_tree
    config = json.loads(json.dumps(manifest.to_config()))
    assert config["kind"] == "firmware"
    assert "health" not in config
    assert Manifest.from_config(config) == manifest
    assert Manifest.from_config(config).to_config() == config
    manifest.check()


def test_software_is_as_it_was_and_may_say_so(write: Write) -> None:
    assert load_manifest(write("release", kind="software")) == load_manifest(write("release"))
    assert "kind" not in load_manifest(write("release")).to_config()
    said = problems(write("release", firmware=[BIOS]))
    assert "firmware is about images, and the release is software; say kind: firmware" in said


def test_what_only_software_has_is_refused_all_at_once(write: Write) -> None:
    health = [{"name": "a", "command": ["a"], "timeout": 5}]
    said = problems(
        write("release", **firmware(health=health, user="app", logs=["log"], portable_names=True, settings={"port": 1}, effect="outside"))
    )
    for key in ("health", "user", "logs", "portable_names", "settings"):
        assert f"{key} is about software on a host, and the release is firmware" in said


def test_what_lacks_is_said_in_the_terms_of_firmware(write: Write) -> None:
    said = problems(write("release", kind="firmware", health=..., hooks=..., settings=...))
    assert "firmware is missing from the manifest" in said
    assert "health" not in said


def test_images_that_can_not_be_are_refused_all_at_once(write: Write) -> None:
    same = {**BIOS, "models": ["PowerEdge R650", "PowerEdge R750"], "from": ["3.5a"], "back_to": ["3.5a"]}
    said = problems(write("release", **firmware(BIOS, same)))
    assert "BIOS of the PowerEdge R750 has an image already, firmware.0" in said
    assert "firmware.1.from has 3.5a, which is the version of the image itself" in said
    assert "firmware.1.back_to has 3.5a, which is the version of the image itself" in said
    for key, value in (("version", 3.5), ("version", " 3.5"), ("version", "3.5\u00e4"), ("from", []), ("models", []), ("image", "../x")):
        assert f"firmware.0.{key}" in problems(write("release", **firmware({**BIOS, key: value}))), key
    assert "takes_effect" in problems(write("release", **firmware({**BIOS, "takes_effect": "soon"})))


def test_versions_of_firmware_have_no_order_unless_one_says_which(write: Write) -> None:
    said = problems(write("release", requires=[{"firmware": "BIOS", "versions": ">=2"}]))
    assert "requires.0 has versions of firmware, which no rules order unless one says which; add a scheme" in said
    for condition in ({"versions": ">=2", "scheme": "pep440"}, {"versions": "3.5, 3.5a", "scheme": "text"}, {}):
        load_manifest(write("release", requires=[{"firmware": "BIOS", **condition}]))
    said = problems(write("release", requires=[{"firmware": "BIOS", "versions": ">=3.5", "scheme": "text"}]))
    assert "the scheme text has no order" in said


def test_images_are_chosen_by_the_model_as_the_device_says_it() -> None:
    image = FirmwareImage.of(BIOS)
    assert images_for("PowerEdge R750", [image]) == (image,)
    assert images_for("poweredge r750", [image]) == ()


def release(folder: Path, files: dict[str, bytes], *images: dict[str, Any]) -> Path:
    return write_release(folder, files, **firmware(*images))


def test_the_payload_is_the_images_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as error:
        read_release(release(tmp_path / "a", {"other.bin": b"x"}))
    assert "payload/bios.bin: the image is missing" in str(error.value)
    assert "payload/other.bin: it is the image of nothing under firmware" in str(error.value)
    with pytest.raises(DocumentError, match="the image is a directory, and an image is a file"):
        read_release(release(tmp_path / "b", {"bios.bin/x": b"x"}))
    read_release(release(tmp_path / "c", {"images/bios.bin": b"x"}, {**BIOS, "image": "images/bios.bin"}))


def test_a_package_that_says_otherwise_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = OciLayout.create(tmp_path / "dsl")
    home = library.repository("hello")
    good = archive(release(tmp_path / "a", {"bios.bin": b"image"}), home)
    assert load_package(home, good.digest).manifest.firmware[0].version == "3.5a"
    (manifest,) = manifests_of(library, [("hello", good.digest), ("hello", f"sha256:{'0' * 64}")]).values()  # what is not there is none
    assert not manifest.has_tree
    with monkeypatch.context() as patch:
        patch.setattr(packages, "faults_in_payload", lambda *_: ())
        folder = release(tmp_path / "b", {"other.bin": b"image"})
        (folder / "release.yml").write_text((folder / "release.yml").read_text().replace("1.0", "2.0"))
        bad = archive(folder, home)
    with pytest.raises(IntegrityError, match=r"has bios\.bin in its payload, and the image is missing"):
        load_package(home, bad.digest)


def test_only_a_back_out_goes_down(tmp_path: Path) -> None:
    home = OciLayout.create(tmp_path / "dsl").repository("hello")

    def source(folder: str, release_version: str, version: str, before: list[str], model: str = "R750") -> Source:
        one = {**BIOS, "models": [model], "version": version, "from": before, "back_to": []}
        return read_release(write_release(tmp_path / folder, {"bios.bin": b"x"}, **firmware(one), version=release_version))

    source("a", "1", "3.5", ["3.4"]).archive(home)
    source("b", "2", "3.5a", ["3.5"]).archive(home)
    for before, above in ((["3.5a"], "3.5a"), (["3.3", "3.5"], "3.5")):
        down = source(f"down-{above}", "3", "3.4", before)
        for refused in (down.archive, down.preview):
            with pytest.raises(DocumentError, match=rf"BIOS 3\.4 for the R750 from {above} is a way down: archived images lead from it to"):
                refused(home)
    assert sorted(home.versions("hello")) == ["1", "2"]
    assert source("other", "3", "3.4", ["3.5a"], model="R650").archive(home).created
    assert source("up", "4", "3.4", ["3.3"]).archive(home).created
    assert source("straight", "5", "3.5a", ["3.4"]).archive(home).created
    assert not source("b-again", "2", "3.5a", ["3.5"]).archive(home).created  # what is archived already is no new way
