# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout only grows, its tags never move, and what is damaged is said to be."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import MANIFEST, Descriptor, canonical, describe_blob
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, IntegrityError, NotFoundError, TidegateError
from releases import spoil

TEXT = "text/plain"


def files(home: OciLayout) -> dict[str, bytes]:
    return {str(path.relative_to(home.path)): path.read_bytes() for path in sorted(home.path.rglob("*")) if path.is_file()}


def test_a_new_layout_is_what_oci_says(tmp_path: Path) -> None:
    home = OciLayout.create(tmp_path / "some" / "dsl")
    assert json.loads((home.path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((home.path / "index.json").read_text())["schemaVersion"] == 2
    assert home.tags() == {}


def test_creating_again_changes_nothing(home: OciLayout) -> None:
    home.tag("a", "1", home.put_blob(b"a", TEXT))
    before = files(home)
    assert OciLayout.create(home.path).tags().keys() == {"a:1"}
    assert files(home) == before


@pytest.mark.parametrize("left", [["blobs"], ["blobs", ".lock", "index.json"], ["lost+found"], [".new-1", ".lock"]])
def test_a_creation_that_was_killed_is_finished(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        if name in ("blobs", "lost+found"):
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_text("")
    assert OciLayout.create(tmp_path).tags() == {}


def test_a_layout_that_somebody_else_makes_and_fills_meanwhile_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Path.iterdir

    def meanwhile(path: Path) -> Iterator[Path]:
        monkeypatch.undo()
        OciLayout.create(tmp_path).put_blob(b"theirs", TEXT)
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", meanwhile)
    home = OciLayout.create(tmp_path)
    assert home.read_blob(describe_blob(b"theirs", TEXT).digest, 10) == b"theirs"


@pytest.mark.parametrize("name", ["thesis.doc", "blobs/sha256/" + 64 * "0"])
def test_a_directory_with_something_else_in_it_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConflictError, match="no DSL and not empty"):
        OciLayout.create(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_a_file_is_no_place_for_a_layout(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConflictError, match="name a directory"):
        OciLayout.create(tmp_path / "file")


def test_opening_what_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="archive a release there first"):
        OciLayout.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("oci-layout", "{"),
        ("oci-layout", '{"imageLayoutVersion": "9"}'),
        ("index.json", ""),
        ("index.json", "[]"),
        ("index.json", "[" * 100_000),
        ("index.json", '{"schemaVersion": 2}'),
        ("index.json", '{"schemaVersion": 2, "manifests": [1]}'),
        ("index.json", '{"schemaVersion": 2, "manifests": [{"mediaType": "a", "digest": "sha256:../../x", "size": 1}]}'),
        ("index.json", None),
        ("index.json", "pipe"),
        ("oci-layout", "pipe"),
    ],
)
def test_a_broken_layout_is_named_when_opened(home: OciLayout, name: str, content: str | None) -> None:
    if content is None:
        (home.path / name).unlink()
    elif content == "pipe":  # nobody waits for what comes out of it
        (home.path / name).unlink()
        os.mkfifo(home.path / name)
    else:
        (home.path / name).write_text(content)
    with pytest.raises(IntegrityError, match=name):
        OciLayout.open(home.path)
    with pytest.raises(IntegrityError, match=name):
        OciLayout.create(home.path)


def test_a_tag_of_two_packages_is_named(home: OciLayout) -> None:
    for content in (b"a", b"b"):
        home.tag("x", f"{content.decode()}", home.put_blob(content, TEXT))
    index = home.path / "index.json"
    index.write_text(index.read_text().replace("x:b", "x:a"))
    with pytest.raises(IntegrityError, match="the tag x:a to two packages"):
        home.tags()


def test_a_blob_comes_back_by_its_digest(home: OciLayout) -> None:
    whole = home.put_blob(b"hello", TEXT)
    assert whole == Descriptor(TEXT, "sha256:" + hashlib.sha256(b"hello").hexdigest(), 5) == describe_blob(b"hello", TEXT)
    assert home.put_blob(iter([b"he", b"", b"llo"]), TEXT) == whole
    assert home.read_blob(whole.digest, 5) == b"hello"
    home.verify_blob(whole)
    with home.open_blob(whole.digest, 100) as stream:
        stream.seek(3)
        assert stream.read() == b"lo"


def test_a_blob_that_is_there_is_kept(home: OciLayout) -> None:
    path = home.path / "blobs" / "sha256" / home.put_blob(b"a", TEXT).digest.removeprefix("sha256:")
    before = path.stat()
    home.put_blob(b"a", TEXT)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(list(path.parent.iterdir())) == 1


def test_a_damaged_blob_is_replaced_by_the_right_bytes(home: OciLayout) -> None:
    blob = home.put_blob(b"right", TEXT)
    spoil(home, blob.digest)
    home.put_blob(b"right", TEXT)
    assert home.read_blob(blob.digest, 5) == b"right"


@pytest.mark.parametrize("content", [None, b"", b"longer than it was"])
def test_a_blob_changed_on_disk_is_named_with_its_path(home: OciLayout, content: bytes | None) -> None:
    blob = home.put_blob(b"right", TEXT)
    path = spoil(home, blob.digest, content)
    for check in (lambda: home.read_blob(blob.digest, 100), lambda: home.verify_blob(blob)):
        with pytest.raises(IntegrityError) as caught:
            check()
        assert blob.digest in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_blob_larger_than_its_limit_is_not_read(home: OciLayout) -> None:
    blob = home.put_blob(b"123456", TEXT)
    with pytest.raises(IntegrityError, match="more than 5 bytes"):
        home.read_blob(blob.digest, 5)


def test_a_missing_blob_is_named(home: OciLayout) -> None:
    blob = describe_blob(b"never", TEXT)
    with pytest.raises(IntegrityError, match=blob.digest):
        home.verify_blob(blob)
    with pytest.raises(IntegrityError, match=blob.digest):
        home.tag("x", "1", blob)
    assert home.tags() == {}


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:../../../etc/passwd", "sha256:" + 64 * "A", "md5:" + 64 * "0", "sha256:" + "0\n" * 32]
)
def test_a_digest_is_checked_before_it_becomes_a_path(home: OciLayout, digest: str) -> None:
    with pytest.raises(IntegrityError, match="is not a digest"):
        home.read_blob(digest, 1)


def test_a_tag_stays_where_it_is(home: OciLayout) -> None:
    first, second = home.put_blob(b"1", TEXT), home.put_blob(b"2", TEXT)
    assert home.tag("hello", "1.0", first) is True
    before = files(home)
    assert home.tag("hello", "1.0", first) is False
    with pytest.raises(ConflictError, match=f"hello:1.0 is archived as {first.digest}.*tags never move; give the release a new version"):
        home.tag("hello", "1.0", second)
    assert files(home) == before
    assert home.resolve("hello", "1.0") == first.digest
    assert home.resolve("hello", "2.0") is None


@pytest.mark.parametrize(
    ("name", "version"), [("", ""), ("", "1"), ("a b", "1"), ("a", ""), ("a", "1_"), ("a", "../b"), ("a", "1\n"), ("a", "ü")]
)
def test_what_other_tools_could_not_name_is_no_tag(home: OciLayout, name: str, version: str) -> None:
    with pytest.raises(TidegateError, match="can't be a tag"):
        home.tag(name, version, home.put_blob(b"1", TEXT))


def test_what_others_wrote_in_the_index_is_kept(home: OciLayout) -> None:
    other = home.put_blob(b"other", TEXT)
    index = json.loads((home.path / "index.json").read_text())
    index["manifests"].append(other.to_json() | {"platform": {"os": "linux"}})
    (home.path / "index.json").write_text(json.dumps(index | {"annotations": {"a": "b"}}))
    home.tag("x", "1", home.put_blob(b"1", TEXT))
    now = json.loads((home.path / "index.json").read_text())
    assert now["manifests"][0]["platform"] == {"os": "linux"}
    assert now["annotations"] == {"a": "b"}
    assert home.tags().keys() == {"x:1"}


@pytest.mark.parametrize("value", ['"half \\ud800 of a character"', "1e999", "NaN"])
def test_what_others_wrote_and_nobody_can_write_again_is_told(home: OciLayout, value: str) -> None:
    index = home.path / "index.json"
    theirs = '{"mediaType": "text/plain", "digest": "sha256:%s", "size": 1, "platform": %s}' % ("0" * 64, value)  # noqa: UP031 - it has braces
    index.write_text(index.read_text().replace("[]", f"[{theirs}]"))
    before = index.read_text()
    with pytest.raises(IntegrityError, match=r"index\.json has .*; restore it"):
        home.tag("a", "1", home.put_blob(b"a", TEXT))
    assert index.read_text() == before


def test_a_file_that_goes_while_the_library_is_looked_through_is_passed_over(home: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = home.put_blob(b"kept", TEXT)
    unfinished = home.blobs / ".new-1"
    unfinished.write_bytes(b"half")
    look = os.scandir

    @contextlib.contextmanager
    def slow(path: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with look(path) as entries:
            found = list(entries)
            unfinished.unlink()
            yield iter(found)

    monkeypatch.setattr(os, "scandir", slow)
    assert home.files() == [kept.digest]


def test_a_stream_that_breaks_leaves_nothing(home: OciLayout) -> None:
    def stream() -> object:
        yield b"half"
        raise TidegateError("the disk of the source is gone")

    before = files(home)
    with pytest.raises(TidegateError, match="the source is gone"):
        home.put_blob(stream(), TEXT)  # type: ignore[arg-type]
    assert files(home) == before


def test_a_full_disk_is_said_in_a_sentence_and_leaves_nothing(home: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = files(home)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TidegateError, match=r"can't write to the DSL .* \(No space left on device\); make room"):
        home.put_blob(b"a", TEXT)
    assert files(home) == before


def tag_many(path: Path, worker: int, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    home = OciLayout.create(path)
    for number in range(20):
        home.tag(f"w{worker}", f"{number}", home.put_blob(f"{worker} {number}".encode(), TEXT))
        home.put_blob(b"the same of all", TEXT)


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Event()
    workers = [context.Process(target=tag_many, args=(tmp_path / "dsl", worker, start)) for worker in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    home = OciLayout.open(tmp_path / "dsl")
    assert home.tags().keys() == {f"w{worker}:{number}" for worker in range(4) for number in range(20)}
    for descriptor in home.tags().values():
        home.verify_blob(descriptor)


def referring(subject: Descriptor, text: str) -> bytes:
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:" + "44" * 32, "size": 2}
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.in-toto+json",
            "config": empty,
            "layers": [],
            "subject": subject.to_json(),
            "annotations": {"text": text},
        }
    )


def test_what_refers_to_a_manifest_is_found_each_once_and_tags_stay(home: OciLayout) -> None:
    subject = home.put_blob(b"{}", MANIFEST)
    home.tag("hello", "1.0", subject)
    assert home.referrers(subject.digest) == []
    first, second, again = (home.refer(subject.digest, referring(subject, text)) for text in ("a", "b", "a"))
    assert first == again
    assert [entry.digest for entry in home.referrers(subject.digest)] == [first.digest, second.digest]
    assert {entry.artifact_type for entry in home.referrers(subject.digest)} == {"application/vnd.in-toto+json"}
    assert home.resolve("hello", "1.0") == subject.digest
    assert home.tags().keys() == {"hello:1.0", subject.digest.replace(":", "-")}
    assert [entry.digest for entry in home.referrers(subject.digest)] == [first.digest, second.digest]


def test_what_refers_to_something_else_is_not_taken(home: OciLayout) -> None:
    subject, other = home.put_blob(b"{}", MANIFEST), home.put_blob(b"{ }", MANIFEST)
    with pytest.raises(TidegateError, match="does not refer to"):
        home.refer(subject.digest, referring(other, "a"))
    assert home.referrers(subject.digest) == []


@pytest.mark.parametrize("step", [OciLayout.find, OciLayout.create, OciLayout.open])
def test_a_path_that_can_not_even_be_looked_at_is_said(tmp_path: Path, step: Callable[[Path], object]) -> None:
    # A name that is too long stands for a directory that may not be entered: root may enter any.
    with pytest.raises(TidegateError, match="File name too long"):
        step(tmp_path / ("x" * 300))


def test_a_library_that_somebody_else_adds_to_is_seen_as_it_is_now(home: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    other = OciLayout.open(home.path)
    for number in range(3):
        other.tag("hello", str(number), other.put_blob(str(number).encode(), MANIFEST))
        assert set(home.releases()) == {("hello", str(seen)) for seen in range(number + 1)}
    monkeypatch.setattr(OciLayout, "_read_index", lambda _self: pytest.fail("it is read again though nobody changed it"))
    assert len(home.releases()) == 3


def refer_many(path: Path, subject: Descriptor, worker: int, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    home = OciLayout.open(path)
    for number in range(20):
        piece = home.refer(subject.digest, referring(subject, f"{worker} {number}"))
        if number % 5 == worker:
            home.publish()
        assert piece in home.referrers(subject.digest)


def test_who_adds_evidence_and_who_publishes_it_at_once_lose_nothing(home: OciLayout) -> None:
    subject = home.put_blob(b"{}", MANIFEST)
    context = multiprocessing.get_context("fork")
    start = context.Event()
    workers = [context.Process(target=refer_many, args=(home.path, subject, worker, start)) for worker in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert len(home.referrers(subject.digest)) == 80
