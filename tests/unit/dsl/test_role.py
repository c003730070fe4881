# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's role is in its package as the payload is, and comes out of it whole or not at all."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.module_utils.package_documents import read_package
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import MANIFEST, Descriptor, canonical
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import OwnAnsible, missing_collections
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import (
    ROLE,
    ROLE_INDEX,
    Package,
    archive,
    load_package,
    read_release,
    verify_package,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.replica import replicate
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.role import check_packaged_role, unpack_role
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.scrub import scrub
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError, IntegrityError, NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.archive import describe
from releases import spoil, write_role_release

MakeRelease = Callable[..., Path]


@pytest.fixture
def with_role(make_release: MakeRelease) -> Path:
    """A release with a payload and a role."""
    return write_role_release(make_release(hooks={}))


@pytest.fixture
def package(home: OciLayout, with_role: Path) -> Package:
    return load_package(home, archive(with_role, home).digest)


def document(home: OciLayout, digest: str) -> dict[str, Any]:
    return dict(json.loads(home.read_blob(digest, 1 << 20)))


def faults(directory: Path) -> list[str]:
    with pytest.raises(DocumentError) as refused:
        read_release(directory)
    return str(refused.value).replace(str(directory), "").splitlines()


def test_a_role_is_a_layer_of_its_own_with_an_index(home: OciLayout, package: Package) -> None:
    layers = document(home, package.digest)["layers"]
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in layers]
    assert titles == ["payload.tar", "README.md", "files.json", "ansible.tar", "ansible.json"]
    assert [layer["mediaType"] for layer in layers[3:]] == [
        "application/vnd.tidegate.release.ansible.v1+tar",
        "application/vnd.tidegate.release.ansible.index.v1+json",
    ]
    assert [entry.path for entry in package.role] == [
        "files", "files/run.sh", "link", "tasks", "tasks/activate.yml", "tasks/back_out.yml", "tasks/check.yml"
    ]  # fmt: skip
    assert package.role_archive
    with tarfile.open(fileobj=io.BytesIO(home.read_blob(package.role_archive.digest, 1 << 20))) as tar:
        assert tar.getnames() == [entry.path for entry in package.role]
    assert package.manifest.ansible == OwnAnsible("ansible/app", ("activate", "check"))
    verify_package(home, package.digest)


def test_the_same_role_has_the_same_digest_anywhere(tmp_path: Path, home: OciLayout, with_role: Path) -> None:
    wanted = archive(with_role, home).digest
    copy = shutil.copytree(with_role, tmp_path / "copy", symlinks=True)
    (copy / "ansible/app").chmod(0o700)
    assert archive(copy, OciLayout.create(tmp_path / "second")).digest == wanted
    for path in [copy / "ansible/app", *(copy / "ansible/app").rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o775 if stat.S_IMODE(path.stat().st_mode) & 0o100 else 0o664)  # as with a umask of 002
            os.utime(path, (1, 1))
    assert archive(copy, OciLayout.create(tmp_path / "third")).digest == wanted


def test_a_release_may_be_its_role_alone(home: OciLayout, make_release: MakeRelease) -> None:
    release = write_role_release(make_release(), payload=None, health=None, hooks=None, settings={"port": 80})
    found = load_package(home, archive(release, home).digest)
    assert (found.files, found.payload.size, found.manifest.payload, found.manifest.health) == ((), 1024, None, ())
    config = json.loads(found.config_bytes)
    assert not {"payload", "health"} & config.keys()
    assert config["settings"] == {"port": 80}
    found.manifest.check()
    verify_package(home, found.digest)
    found_again = archive(release, home)
    assert (found_again.created, found_again.files, len(found_again.role)) == (False, 0, 7)


def test_a_host_takes_the_package_and_is_sent_nothing_of_the_role(package: Package) -> None:
    documents = read_package(package.digest, package.manifest_bytes, package.config_bytes, package.index_bytes)
    assert documents.config["ansible"]["steps"] == ["activate", "check"]
    assert [entry["path"] for entry in documents.files] == [entry.path for entry in package.files]
    assert documents.payload.digest == package.payload.digest


@pytest.mark.parametrize("what", ["archive", "index"])
def test_one_changed_byte_is_found(tmp_path: Path, home: OciLayout, package: Package, what: str) -> None:
    (layer,) = (
        layer for layer in document(home, package.digest)["layers"] if layer["mediaType"] == (ROLE if what == "archive" else ROLE_INDEX)
    )
    path = home.path / "blobs/sha256" / layer["digest"].removeprefix("sha256:")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    spoil(home, layer["digest"], bytes(content))
    with pytest.raises(IntegrityError, match=layer["digest"]):
        verify_package(home, package.digest)
    if what == "archive":
        with pytest.raises(IntegrityError, match=layer["digest"]):
            unpack_role(home, package, tmp_path / "run")
        assert list((tmp_path / "run").iterdir()) == []
    else:
        with pytest.raises(IntegrityError, match=layer["digest"]):
            load_package(home, package.digest)
    assert scrub(home, None, write=False).damaged


def forged(home: OciLayout, package: Package, change: Callable[[dict[str, Any]], None]) -> str:
    found = document(home, package.digest)
    change(found)
    return home.put_manifest(canonical(found)).digest


def test_role_and_index_are_one_tree(tmp_path: Path, home: OciLayout, package: Package) -> None:
    assert package.role_archive
    tar = bytearray(home.read_blob(package.role_archive.digest, 1 << 20))
    at = tar.index(b"debug")
    tar[at : at + 5] = b"shell"

    def other(found: dict[str, Any]) -> None:
        found["layers"][3] |= home.put_blob(bytes(tar), ROLE).to_json()

    digest = forged(home, package, other)
    loaded = load_package(home, digest)
    with pytest.raises(IntegrityError, match=r"not one tree.*tasks/activate\.yml"):
        verify_package(home, digest)
    with pytest.raises(IntegrityError, match=r"not one tree.*tasks/activate\.yml"):
        unpack_role(home, loaded, tmp_path)
    # Nor does a copy of the library get it.
    found = Descriptor(MANIFEST, digest, len(home.read_manifest(digest)))
    (problem,) = replicate(home, OciLayout.create(tmp_path / "copy"), {("hello", "1.0"): found}, lambda *_one: "", write=True).problems
    assert "are not one tree" in problem


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda found: found["layers"].pop(), "does not consist of one config"),
        (lambda found: found["layers"].pop(3), "does not consist of one config"),
        (lambda found: [found["layers"].pop(), found["layers"].pop()], "has no role, and its config names one"),
        (lambda found: found["layers"].append(found["layers"][3]), "does not consist of one config"),
        (lambda found: found["layers"][3]["annotations"].clear(), "have other titles"),
        (lambda found: found["layers"][4]["annotations"].update({"org.opencontainers.image.title": "../x"}), "have other titles"),
    ],
)
def test_layers_that_are_not_as_they_should_be_are_refused(
    home: OciLayout, package: Package, change: Callable[[dict[str, Any]], None], what: str
) -> None:
    with pytest.raises(IntegrityError, match=what):
        load_package(home, forged(home, package, change))


def test_a_role_that_no_config_names_is_refused(home: OciLayout, package: Package) -> None:
    config = json.loads(package.config_bytes)
    del config["ansible"]

    def other(found: dict[str, Any]) -> None:
        found["config"] |= home.put_blob(canonical(config), found["config"]["mediaType"]).to_json()

    with pytest.raises(IntegrityError, match="has a role, and its config names none"):
        load_package(home, forged(home, package, other))


def test_files_for_hosts_that_no_config_names_are_refused(home: OciLayout, package: Package) -> None:
    config = {key: value for key, value in json.loads(package.config_bytes).items() if key not in ("payload", "health")}

    def other(found: dict[str, Any]) -> None:
        found["config"] |= home.put_blob(canonical(config), found["config"]["mediaType"]).to_json()

    with pytest.raises(IntegrityError, match="has files for hosts, and its config names no payload"):
        load_package(home, forged(home, package, other))


def test_a_role_is_laid_out_as_it_was_archived(tmp_path: Path, home: OciLayout, package: Package) -> None:
    root = unpack_role(home, package, tmp_path / "a" / "run")
    assert root == tmp_path / "a" / "run" / "app"
    assert (stat.S_IMODE(root.stat().st_mode), stat.S_IMODE(root.parent.stat().st_mode)) == (0o700, 0o700)
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    assert sorted(found) == [entry.path for entry in package.role]
    assert found["files/run.sh"].read_bytes() == b"#!/bin/sh\n"
    assert found["link"].readlink() == Path("files/run.sh")
    for entry in package.role:
        assert entry.mode is None or stat.S_IMODE(found[entry.path].stat().st_mode) == entry.mode
    with pytest.raises(TidegateError, match=r"can't be laid out in .*File exists"):
        unpack_role(home, package, root.parent)


def test_a_role_that_changes_while_it_is_read_is_not_laid_out(
    tmp_path: Path, home: OciLayout, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert package.role_archive
    content = home.read_blob(package.role_archive.digest, 1 << 20)
    opened = iter([content, content.replace(b"#!/bin/sh", b"#!/bin/xx")])
    monkeypatch.setattr(OciLayout, "open_blob", lambda *_arguments: io.BytesIO(next(opened)))
    with pytest.raises(IntegrityError, match=r"files/run\.sh changed while it was read"):
        unpack_role(home, package, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_package_without_a_role_has_none_to_lay_out(tmp_path: Path, home: OciLayout, release: Path) -> None:
    found = load_package(home, archive(release, home).digest)
    assert (found.role, found.role_archive, found.manifest.ansible) == ((), None, None)
    with pytest.raises(NotFoundError, match="brings no role"):
        unpack_role(home, found, tmp_path)


def test_a_role_that_others_archived_is_looked_at_too(home: OciLayout, with_role: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (with_role / "ansible/app/tasks/check.yml").write_text("- meta: end_play\n")
    assert faults(with_role) == [
        "ansible/app/tasks/check.yml:1: meta: end_play reaches beyond this role's tasks; what does no harm is flush_handlers, noop, "
        "reset_connection, clear_facts; leave tasks out with when"
    ]
    with monkeypatch.context() as patch:
        patch.setattr("ansible_collections.tidegate.release.plugins.plugin_utils.dsl.role_rules.check_role", lambda *_arguments: [])
        digest = archive(with_role, home).digest
    with pytest.raises(DocumentError, match=r"ansible/app/tasks/check\.yml:1: meta: end_play"):
        check_packaged_role(home, load_package(home, digest))


def test_links_out_of_a_role_are_refused(with_role: Path) -> None:
    for name, target in (("a", "/etc/passwd"), ("b", "../../payload/bin/hello"), ("c", "nothing")):
        (with_role / "ansible/app" / name).symlink_to(target)
    assert [fault.split(";")[0] for fault in faults(with_role)] == [
        "ansible/app/a: it is a link that leads outside",
        "ansible/app/b: it is a link that leads outside",
        "ansible/app/c: it is a link that leads nowhere",
    ]


@pytest.mark.parametrize("role", ["payload", "payload/app", "elsewhere/bin", "nothing", "README.md"])
def test_a_role_is_a_directory_of_its_own(make_release: MakeRelease, role: str) -> None:
    release = write_role_release(make_release(hooks={}))
    (release / "elsewhere").symlink_to("/usr")
    (release / "payload/app").mkdir()
    change_manifest(release, ansible={"role": role, "steps": ["check"], "on_first": "back_out", "atomic": False})
    what = "in one another" if role.startswith("payload") else "the role is not a directory inside"
    assert what in faults(release)[0]


def test_a_payload_in_a_role_is_refused(make_release: MakeRelease) -> None:
    release = write_role_release(make_release(hooks={}))
    (release / "payload").rename(release / "ansible/app/payload")
    change_manifest(release, payload="ansible/app/payload")
    assert "in one another" in faults(release)[0]


def change_manifest(release: Path, **changes: object) -> None:
    path = release / "release.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def test_what_a_role_is_is_shown_before_it_is_archived(home: OciLayout, with_role: Path) -> None:
    source = read_release(with_role)
    first = describe(source.preview(home), source.manifest, None, None)
    assert "role app: 4 files of 85 bytes; steps: activate, check, 1800 s each" in first
    assert "back-out: the activate of the release before; where there was none: its back_out; not atomic" in first
    archive(with_role, home)
    (with_role / "ansible/app/tasks/check.yml").write_text("- ansible.builtin.command: x\n")
    changed = read_release(with_role)
    later = describe(changed.preview(None), changed.manifest, load_package(home, str(home.resolve("hello", "1.0"))), None)
    assert "role against 1.0: 1 changed (tasks/check.yml), 4 as before" in later


def test_of_a_release_without_a_payload_no_file_is_compared(home: OciLayout, make_release: MakeRelease) -> None:
    release = write_role_release(make_release(), payload=None, health=None)
    before = load_package(home, archive(release, home).digest)
    source = read_release(release)
    assert describe(source.preview(home), source.manifest, before, None) == [
        "no payload; documentation: README.md",
        "role app: 4 files of 85 bytes; steps: activate, check, 1800 s each",
        "back-out: the activate of the release before; where there was none: its back_out; not atomic",
        "role against 1.0: 5 as before",
    ]


def test_collections_that_are_not_there_are_named() -> None:
    own = OwnAnsible(
        "ansible/app",
        ("check",),
        collections=(
            {"name": "a.b", "version": ">=9"},
            {"name": "c.d"},
            {"name": "e.f", "version": ">=1,<2"},
            {"name": "g.h", "version": ">=1"},
        ),
    )
    there = {"a.b": "8.5.0", "e.f": "1.9.0-beta.1", "g.h": "*"}
    assert missing_collections(own, there.get) == [
        "the role app needs the collection a.b >=9, which is installed as 8.5.0; install it where this runs",
        "the role app needs the collection c.d, which is not installed; install it where this runs",
        "the role app needs the collection g.h >=1, which can't be compared: '*' is no version of the scheme pep440; "
        "install it where this runs",
    ]
    assert missing_collections(own, {"a.b": "9.0.0", "c.d": "*", "e.f": "1.0.0", "g.h": "2.0.0"}.get) == []
