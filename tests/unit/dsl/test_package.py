# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package is the same everywhere, is there whole or not at all, and every damaged byte of it is found."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import re
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import package as subject
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import Descriptor, canonical
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive, load_package, read_release, verify_package
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, DocumentError, IntegrityError, TidegateError
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import spoil, write_release

MakeRelease = Callable[..., Path]


def blobs(home: OciLayout) -> set[str]:
    return {path.name for path in (home.path / "blobs" / "sha256").iterdir()}


def document(home: OciLayout, digest: str) -> dict[str, Any]:
    return dict(json.loads(home.read_blob(digest, 1 << 20)))


def test_a_package_is_what_its_digest_names(home: OciLayout, release: Path) -> None:
    archived = archive(release, home)
    assert (archived.name, archived.version, archived.created, archived.files) == ("hello", "1.0", True, 2)
    assert home.resolve("hello", "1.0") == archived.digest
    found = document(home, archived.digest)
    assert found["artifactType"] == "application/vnd.tidegate.release.v1+json"
    assert found["annotations"] == {"org.opencontainers.image.title": "hello", "org.opencontainers.image.version": "1.0"}
    assert [layer["mediaType"].removeprefix("application/vnd.") for layer in found["layers"]] == [
        "oci.image.layer.v1.tar", "tidegate.release.documentation.v1", "tidegate.release.index.v1+json"
    ]  # fmt: skip
    package = load_package(home, archived.digest)
    assert (package.manifest.name, package.manifest.version) == ("hello", "1.0")
    assert [entry.path for entry in package.files] == ["bin", "bin/hello", "lib", "lib/data"]
    assert sum(entry.size or 0 for entry in package.files) == archived.size
    assert [part.annotations for part in package.documentation] == [{"org.opencontainers.image.title": "README.md"}]
    assert home.read_blob(package.documentation[0].digest, 100) == b"# Hello\n"
    verify_package(home, archived.digest)


def test_the_payload_tar_of_this_tree_never_changes(home: OciLayout, make_release: MakeRelease) -> None:
    """A new Python or a new release of the collection must not archive the same software as something else."""
    release = make_release(files={"bin/hello": b"hello", "k\u00e4se/" + "long" * 50: b"", "plain": b"x" * 1000})
    (release / "payload" / "link").symlink_to("bin/hello")
    package = load_package(home, archive(release, home).digest)
    assert package.payload.digest == "sha256:9d9689d0da40542cbde55a29ee4559e9dd5e258e66cb2cb362b88fc2ffaa5eef"
    assert (
        json.loads(package.manifest_bytes)["layers"][2]["digest"]
        == "sha256:459bab8b68835c9744a56024485a72821f268948279d278a240b8d3f6451bd15"
    )


NAMES = st.text(st.sampled_from("abcé-. "), min_size=1, max_size=6).filter(lambda name: name not in (".", "..", ". "))
TREES = st.dictionaries(NAMES, st.tuples(st.binary(max_size=2000), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(tree=TREES, order=st.randoms(use_true_random=False), umask=st.sampled_from([0o002, 0o022]), when=st.integers(0, 2_000_000_000))
def test_the_same_input_gives_the_same_digest(tree: dict[str, tuple[bytes, bool]], order: Any, umask: int, when: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for number in range(2):
            release = write_release(Path(folder) / f"release{number}", {})
            names = sorted(tree)
            if number:
                order.shuffle(names)
            mask = umask if number else 0o022
            before = os.umask(mask)
            (release / "payload").chmod(0o777 & ~mask)
            try:
                for name in names:
                    content, execute = tree[name]
                    sub = release / "payload" / f"d{len(content) % 3}"
                    sub.mkdir(exist_ok=True)
                    (sub / name).write_bytes(content)
                    if execute:
                        (sub / name).chmod(0o777 & ~mask)
                    if number:
                        os.utime(sub / name, (when, when))
                home = OciLayout.create(Path(folder) / f"dsl{number}")
                results.append((read_release(release).preview(None), archive(release, home), sorted(blobs(home))))
            finally:
                os.umask(before)
        assert results[0] == results[1]
        assert results[0][0] == results[0][1]


def test_archiving_again_changes_nothing(home: OciLayout, release: Path) -> None:
    first = archive(release, home)
    index = (home.path / "index.json").stat().st_ino
    before = blobs(home)
    again = archive(release, home)
    assert (again.digest, again.created) == (first.digest, False)
    assert blobs(home) == before
    assert (home.path / "index.json").stat().st_ino == index


@pytest.mark.parametrize("changed", ["payload/lib/data", "README.md", "release.yml"])
def test_a_version_with_another_content_is_refused_and_nothing_is_written(home: OciLayout, release: Path, changed: str) -> None:
    first = archive(release, home)
    before = blobs(home)
    with (release / changed).open("a") as stream:
        stream.write("\nlicence: MIT\n" if changed == "release.yml" else "more")
    with pytest.raises(ConflictError, match=r"hello:1\.0 is archived as .* give the release a new version"):
        archive(release, home)
    with pytest.raises(ConflictError, match="give the release a new version"):
        read_release(release).preview(home)
    assert home.resolve("hello", "1.0") == first.digest
    assert blobs(home) == before


def test_a_preview_says_what_archiving_will_say(home: OciLayout, release: Path) -> None:
    expected = read_release(release).preview(home)
    assert blobs(home) == set()
    assert archive(release, home) == expected
    assert read_release(release).preview(home).created is False


def test_a_crash_before_the_tag_shows_nothing_and_is_made_good(home: OciLayout, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PowerCutError(Exception):
        pass

    def cut(*arguments: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(OciLayout, "tag", cut)
        with pytest.raises(PowerCutError):
            archive(release, home)
    assert home.tags() == {}
    assert home.resolve("hello", "1.0") is None
    archived = archive(release, home)
    assert archived.created
    verify_package(home, archived.digest)


def test_faults_of_payload_and_documentation_are_told_together(make_release: MakeRelease) -> None:
    release = make_release(documentation=["README.md", "missing.md", "link.md"])
    (release / "link.md").symlink_to("/etc/passwd")
    (release / "payload" / "out").symlink_to("/")
    with pytest.raises(DocumentError) as caught:
        read_release(release)
    assert [problem.where for problem in caught.value.problems] == ["payload/out", "missing.md", "link.md"]


def test_a_payload_outside_of_the_release_is_refused(make_release: MakeRelease, tmp_path: Path) -> None:
    release = make_release()
    (release / "payload").rename(tmp_path / "elsewhere")
    (release / "payload").symlink_to("../elsewhere")
    with pytest.raises(DocumentError, match="not a directory inside"):
        read_release(release)


TREE = {"bin/hello": b"#!/bin/sh\n", "lib/" + "long" * 40: b"", "lib/data": b"x" * 1000, "none": b""}


def forge(home: OciLayout, release: Path, payload: bytes | None = None, files: list[Any] | None = None) -> str:
    """The package of a release with another payload or another file index, each in the manifest by its own digest."""
    digest = archive(release, home).digest
    found = document(home, digest)
    for number, media_type, content in (
        (0, subject.PAYLOAD, payload),
        (2, subject.INDEX, None if files is None else canonical({"schema": 1, "files": files})),
    ):
        if content is not None:
            found["layers"][number] |= home.put_blob(content, media_type).to_json()
    return home.put_manifest(canonical(found)).digest


def repacked(content: bytes, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], Any]) -> bytes:
    """The tar with other members: a sound one to whoever unpacks it."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = [(member, stream.read() if (stream := tar.extractfile(member)) else b"") for member in tar if not member.issym()]
    change(members)
    made = b""
    for info, data in members:
        info.size = len(data)
        made += info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)
    return made + bytes(1024)


def renamed(name: str, field: str, value: Any) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], Any]:
    return lambda members: setattr(next(info for info, _data in members if info.name == name), field, value)


def with_data(data: bytes) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], Any]:
    return lambda members: members.__setitem__(slice(None), [(info, data if info.name == "lib/data" else old) for info, old in members])


def sparse(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[-1][0].pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9", "GNU.sparse.name": "none"}


OTHERS: dict[str, Callable[[bytes], bytes]] = {
    "bytes behind the end": lambda tar: tar + b"x",
    "blocks behind the end": lambda tar: tar + bytes(512),
    "a second tar behind the end": lambda tar: tar + tar,
    "no end": lambda tar: tar[:-1024],
    "an end in the middle": lambda tar: tar[:512] + bytes(1024) + tar[512:],
    "compressed": gzip.compress,
    "another name": lambda tar: repacked(tar, renamed("bin/hello", "name", "bin/hallo")),
    "another mode": lambda tar: repacked(tar, renamed("bin/hello", "mode", 0o644)),
    "set-uid": lambda tar: repacked(tar, renamed("bin/hello", "mode", 0o4755)),
    "an owner": lambda tar: repacked(tar, renamed("bin/hello", "uid", 1000)),
    "a time": lambda tar: repacked(tar, renamed("bin/hello", "mtime", 1)),
    "another kind": lambda tar: repacked(tar, renamed("none", "type", tarfile.FIFOTYPE)),
    "a hard link": lambda tar: repacked(tar, renamed("none", "type", tarfile.LNKTYPE)),
    "a pax header that overrides": lambda tar: repacked(tar, renamed("bin/hello", "pax_headers", {"path": "bin/hallo"})),
    "a pax header of everything": lambda tar: tarfile.TarInfo.create_pax_global_header({"path": "x"}) + tar,
    "sparse": lambda tar: repacked(tar, sparse),
    "other bytes": lambda tar: repacked(tar, with_data(b"y" * 1000)),
    "more bytes": lambda tar: repacked(tar, with_data(b"x" * 1024)),
    "one less": lambda tar: repacked(tar, lambda members: members.pop()),
    "one more": lambda tar: repacked(tar, lambda members: members.append((tarfile.TarInfo("zzz"), b"evil"))),
    "one twice": lambda tar: repacked(tar, lambda members: members.append(members[1])),
    "another order": lambda tar: repacked(tar, lambda members: members.reverse()),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_payload_that_is_another_tree_than_the_index_says_is_refused(home: OciLayout, make_release: MakeRelease, other: str) -> None:
    """Whoever unpacks the payload, a scanner of the registry for one, has to see what runs."""
    release = make_release(files=TREE)
    content = home.read_blob(load_package(home, archive(release, home).digest).payload.digest, 1 << 20)
    assert repacked(content, lambda _members: None) == content
    with pytest.raises(IntegrityError, match="are not one tree"):
        verify_package(home, forge(home, release, payload=OTHERS[other](content)))


@settings(max_examples=150, deadline=None)
@given(
    where=st.floats(0, 1), cut=st.sampled_from([0, 0, 1, 512, 1024]), new=st.binary(max_size=3) | st.sampled_from([bytes(512), bytes(1024)])
)
def test_no_changed_tar_is_taken_for_the_tree_of_the_index(where: float, cut: int, new: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home, release = OciLayout.create(Path(folder) / "dsl"), write_release(Path(folder) / "release", TREE)
        content = home.read_blob(load_package(home, archive(release, home).digest).payload.digest, 1 << 20)
        place = int(where * len(content))
        changed = content[:place] + new + content[place + cut :]
        digest = forge(home, release, payload=changed)
        if changed == content:
            verify_package(home, digest)
            return
        with pytest.raises(IntegrityError, match="are not one tree"):
            verify_package(home, digest)


@pytest.mark.parametrize("without", ["bin/hello", "lib/data", "none", "to"])
def test_an_index_that_lacks_what_the_payload_has_is_refused_whenever_the_package_is_read(
    home: OciLayout, make_release: MakeRelease, without: str
) -> None:
    release = make_release(files=TREE)
    (release / "payload" / "to").symlink_to("none")
    files = json.loads(load_package(home, archive(release, home).digest).index_bytes)["files"]
    digest = forge(
        home, release, files=[entry for entry in files if entry["path"] != without and (without != "none" or entry["path"] != "to")]
    )
    with pytest.raises(IntegrityError, match="are not one tree"):
        load_package(home, digest)


@pytest.mark.parametrize("kind", ["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip", "text/plain"])
def test_a_layer_that_would_be_laid_over_the_payload_is_refused(home: OciLayout, release: Path, kind: str) -> None:
    found = document(home, archive(release, home).digest)
    found["layers"].append(home.put_blob(b"over", kind).to_json())
    with pytest.raises(IntegrityError, match="does not consist of one config"):
        load_package(home, home.put_manifest(canonical(found)).digest)


@pytest.mark.parametrize("key", ["payload", "documentation"])
def test_names_in_the_manifest_with_what_nobody_sees_are_refused(make_release: MakeRelease, key: str) -> None:
    name = "na\ufe0fme"
    release = make_release(**{key: name if key == "payload" else [name]})
    (release / ("payload" if key == "payload" else "README.md")).rename(release / name)
    with pytest.raises(DocumentError, match=r"the name has a character that can't be seen, U\+FE0F; rename it"):
        read_release(release)


def test_a_missing_payload_is_refused(make_release: MakeRelease) -> None:
    release = make_release(files={})
    (release / "payload").rmdir()
    with pytest.raises(DocumentError, match="not a directory inside"):
        read_release(release)


def parts(home: OciLayout, digest: str) -> list[str]:
    found = document(home, digest)
    return [found["config"]["digest"], *(layer["digest"] for layer in found["layers"])]


@pytest.mark.parametrize("number", range(4))
def test_each_damaged_blob_is_found_and_named(home: OciLayout, release: Path, number: int) -> None:
    digest = archive(release, home).digest
    damaged = parts(home, digest)[number]
    spoil(home, damaged)
    with pytest.raises(IntegrityError, match=damaged):
        verify_package(home, digest)
    if number in (0, 3):  # the documents are checked whenever a package is used
        with pytest.raises(IntegrityError, match=damaged):
            load_package(home, digest)


def test_all_damaged_and_missing_blobs_are_named_at_once(home: OciLayout, release: Path) -> None:
    digest = archive(release, home).digest
    names = parts(home, digest)
    for damaged in names[:3]:
        spoil(home, damaged)
    (home.path / "blobs" / "sha256" / names[3].removeprefix("sha256:")).unlink()
    with pytest.raises(IntegrityError) as caught:
        verify_package(home, digest)
    assert [name in str(caught.value) for name in names] == [True] * 4


def test_a_damaged_manifest_is_named(home: OciLayout, release: Path) -> None:
    digest = archive(release, home).digest
    spoil(home, digest)
    for check in (load_package, verify_package):
        with pytest.raises(IntegrityError, match=digest):
            check(home, digest)


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda found: found.pop(key)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update(artifactType="application/vnd.example"),
        lambda found: found.update(schemaVersion=1),
        lambda found: found.update(config=found["layers"][0]),
        lambda found: found["layers"].append(found["layers"][0]),
        lambda found: found["layers"].append(found["config"]),
        lambda found: found["layers"].append(found["layers"][1] | {"mediaType": "application/x-other"}),
        lambda found: found["layers"].pop(),
        lambda found: found["layers"].pop(0),
        lambda found: found["layers"][2].update(size=1),
        lambda found: found["layers"][2].update(size=found["layers"][2]["size"] + 1),
        lambda found: found["layers"][0].update(size=600),
        lambda found: found["layers"][0].update(digest="sha256:../../../etc/passwd"),
        lambda found: found["layers"][1].update(annotations={"a": 1}),
        lambda found: found.update(layers="x"),
        without("artifactType"),
        without("config"),
        without("layers"),
    ],
)
def test_a_package_of_another_shape_is_refused(home: OciLayout, release: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = document(home, archive(release, home).digest)
    change(found)
    forged = home.put_blob(canonical(found), "application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(IntegrityError):
        load_package(home, forged.digest)


def test_files_that_share_the_bytes_of_a_small_payload_are_refused(home: OciLayout, release: Path) -> None:
    """Each of these is inside the payload; together they would make a host or a pack thousands of times its size."""
    digest = archive(release, home).digest
    found = document(home, digest)
    size = found["layers"][0]["size"]
    files = [
        {"path": f"f{number:04}", "type": "file", "mode": 0o644, "size": size - number, "sha256": f"{number:064x}", "offset": number}
        for number in range(1000)
    ]
    found["layers"][2] = home.put_blob(canonical({"schema": 1, "files": files}), subject.INDEX).to_json()
    forged = home.put_blob(canonical(found), subject.MANIFEST)
    with pytest.raises(IntegrityError, match="are not one tree"):
        load_package(home, forged.digest)


@pytest.mark.parametrize("config", [b"{", b"[]", b"{}", b'{"name": "hello", "documentation": 1}'])
def test_a_config_of_something_else_is_refused(home: OciLayout, release: Path, config: bytes) -> None:
    found = document(home, archive(release, home).digest)
    found["config"] = home.put_blob(config, subject.CONFIG).to_json()
    forged = home.put_blob(canonical(found), subject.MANIFEST)
    with pytest.raises(IntegrityError, match=f"the config of the package {forged.digest}"):
        load_package(home, forged.digest)


def test_the_order_of_documentation_in_the_manifest_leaves_no_trace(home: OciLayout, make_release: MakeRelease) -> None:
    digests = set()
    for number, names in enumerate((["README.md", "payload/x"], ["payload/x", "README.md"])):
        release = make_release(f"r{number}", {"x": b"x"}, documentation=names)
        digests.add(archive(release, home).digest)
    assert len(digests) == 1


def archive_in_a_process(release: Path, dsl: Path, start: Any, results: Any) -> None:
    start.wait()
    try:
        results.put(archive(release, OciLayout.create(dsl)))
    except TidegateError as error:
        results.put(type(error).__name__)


@pytest.mark.parametrize("same", ["version", "release", "nothing"])
def test_archiving_at_once(make_release: MakeRelease, tmp_path: Path, same: str) -> None:
    versions = [f"1.{0 if same in ('version', 'release') else number}" for number in range(4)]
    releases = [
        make_release(f"r{number}", {"data": os.urandom(300_000) if same == "version" else b"x" * 300_000}, version=version)
        for number, version in enumerate(versions)
    ]
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    workers = [context.Process(target=archive_in_a_process, args=(release, tmp_path / "dsl", start, results)) for release in releases]
    for worker in workers:
        worker.start()
    start.set()
    outcomes = [results.get(timeout=60) for _worker in workers]
    for worker in workers:
        worker.join(60)
    archived = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert len(archived) == (1 if same == "version" else 4)
    assert outcomes.count("ConflictError") == (3 if same == "version" else 0)
    assert sum(outcome.created for outcome in archived) == (4 if same == "nothing" else 1)
    home = OciLayout.open(tmp_path / "dsl")
    assert home.tags().keys() == {f"hello:{version}" for version in versions}
    for descriptor in home.tags().values():
        verify_package(home, descriptor.digest)


def test_nothing_but_a_tag_is_written_after_the_manifest(home: OciLayout, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    put, tag = OciLayout.put_blob, OciLayout.tag
    monkeypatch.setattr(OciLayout, "put_blob", lambda self, source, kind: (put(self, source, kind), order.append(kind))[0])

    def note(self: OciLayout, name: str, version: str, descriptor: Descriptor) -> bool:
        order.append(f"{name}:{version}")
        return tag(self, name, version, descriptor)

    monkeypatch.setattr(OciLayout, "tag", note)
    archive(release, home)
    assert order[-2:] == [subject.MANIFEST, "hello:1.0"]


def test_every_layer_has_a_title_that_no_other_has(home: OciLayout, make_release: MakeRelease) -> None:
    """Else oras pull leaves it out, or writes one over another."""
    release = make_release(documentation=["docs/guide.md", "README.md"])
    (release / "docs").mkdir()
    (release / "docs" / "guide.md").write_text("# Guide\n")
    found = document(home, archive(release, home).digest)
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in found["layers"]]
    assert titles == ["payload.tar", "README.md", "docs/guide.md", "files.json"]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["payload.tar"], "over payload.tar, as the package's own part is called"),
        (["FILES.json"], "over files.json"),
        (["payload.tar/notes"], "over payload.tar"),
        (["README.md", "readme.MD"], "'readme.MD' would be written over 'README.md'"),
        (["caf\u00e9", "cafe\u0301"], "would be written over"),
    ],
)
def test_documentation_that_would_be_written_over_something_is_refused(make_release: MakeRelease, names: list[str], why: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(why)):
        read_release(make_release(documentation=names))


@pytest.mark.parametrize("titles", [["../payload.tar", "files.json"], ["payload.tar", "payload.tar"], ["payload.tar", None]])
def test_a_package_whose_layers_would_be_other_files_is_refused(home: OciLayout, release: Path, titles: list[str | None]) -> None:
    found = document(home, archive(release, home).digest)
    for layer, title in zip([found["layers"][0], found["layers"][-1]], titles, strict=True):
        layer["annotations"] = {"org.opencontainers.image.title": title} if title else {}
    with pytest.raises(IntegrityError, match="have other titles than what is in them"):
        load_package(home, home.put_manifest(canonical(found)).digest)
