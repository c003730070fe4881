# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a release's home may be anything: each step ends in a result or a sentence, and what is unsure is not taken for sure."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.package_documents import read_package
from ansible_collections.tidegate.release.plugins.module_utils.release_record import INDEX, HostError, Texts
from bed import Host, package, restore, save, sha
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ONE, TWO = package("1.0"), package("2.0")
DEEP = b"[" * 100_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.integers(min_value=10**400, max_value=10**401),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FUZZED = settings(max_examples=settings().max_examples // 5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def live(host: Host) -> Host:
    host.deploy(ONE)
    host.stage(TWO)
    return host


@pytest.fixture
def deployed(host: Host) -> Callable[[], Host]:
    """The host with a release that is live, as if nothing had been done to it since; call it for each example."""
    host.deploy(ONE)
    saved = save(host)

    def again() -> Host:
        restore(host, saved)
        return host

    return again


def _all_steps(host: Host) -> None:
    """Every step, one after the other: none may end in anything else than a result or a sentence."""
    steps: list[Any] = [
        host.home.strangers,
        host.home.stable,
        lambda: host.home.at_rest(host.home.live()),
        lambda: host.stage(TWO),
        lambda: host.activate(TWO, ONE),
        lambda: host.back_out(TWO, ONE),
    ]
    for step in steps:
        problem = None
        try:
            step()
        except (HostError, OSError) as error:
            problem = error
        assert problem is None or len(str(problem)) < 1000


def _mangled(document: Any, how: Any) -> Any:
    """``document`` with one value in it, found by the path ``how`` starts with, replaced."""
    path, value = how
    if not path or not isinstance(document, (dict, list)) or not document:
        return value
    step, *rest = path
    if isinstance(document, dict):
        key = sorted(document)[step % len(document)]
        return {**document, key: _mangled(document[key], (rest, value))}
    index = step % len(document)
    return [*document[:index], _mangled(document[index], (rest, value)), *document[index + 1 :]]


HOW = st.tuples(st.lists(st.integers(0, 20), max_size=5), JSON)


@FUZZED
@given(lines=st.lists(st.binary(max_size=60) | HOW, max_size=4))
def test_any_log_is_survived(deployed: Callable[[], Host], lines: list[Any]) -> None:
    host = deployed()
    good = json.loads((host.home.path / "log.jsonl").read_text().splitlines()[-1])
    with (host.home.path / "log.jsonl").open("ab") as stream:
        for line in lines:
            stream.write((line if isinstance(line, bytes) else json.dumps(_mangled(good, line)).encode()) + b"\n")
    _all_steps(host)


@FUZZED
@given(text=st.binary(max_size=40) | HOW)
def test_any_record_of_a_release_is_survived(deployed: Callable[[], Host], text: Any) -> None:
    host = deployed()
    for release in (ONE, TWO):
        record = host.home.releases / release.id / "release.json"
        if record.exists() and isinstance(text, bytes):
            record.write_bytes(text)
        elif record.exists():
            documents = {part: json.loads(document) for part, document in Texts.of_record(record.read_bytes())._asdict().items()}
            mangled = _mangled(documents, text)
            texts = Texts(*(json.dumps(mangled.get(part)).encode() for part in Texts._fields)) if isinstance(mangled, dict) else None
            record.write_bytes(texts.record() if texts else json.dumps(mangled).encode())
    _all_steps(host)


@FUZZED
@given(text=st.binary(max_size=40) | st.integers().map(lambda number: str(number).encode()))
def test_any_token_is_survived(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    host = Host(tmp_path_factory.mktemp("fuzz") / "root")
    with host.home.locked(1):
        (host.home.path / "token").write_bytes(text)
        try:
            host.home.fence(1)
        except HostError:
            return
        assert int((host.home.path / "token").read_bytes()) == 1


@FUZZED
@given(how=HOW, which=st.integers(0, 2))
def test_any_document_of_a_package_is_survived(how: Any, which: int) -> None:
    documents = list(ONE.documents)
    documents[which] = json.dumps(_mangled(json.loads(documents[which]), how)).encode()
    if which:  # the digests above it follow, as whoever made such a package would have it
        changed = json.loads(documents[0])
        blob = f"sha256:{sha(documents[which])}"
        (changed["config"] if which == 1 else changed["layers"][1])["digest"] = blob
        documents[0] = json.dumps(changed).encode()
    with contextlib.suppress(HostError):
        read_package(f"sha256:{sha(documents[0])}", *documents)


@pytest.mark.parametrize("name", ["log.jsonl", "token", "releases/{id}/release.json"])
@pytest.mark.parametrize("kind", ["pipe", "directory", "link", "deep", "nan", "numbers", "long"])
def test_something_else_in_place_of_a_file_is_survived(live: Host, name: str, kind: str) -> None:
    path = live.home.path / name.format(id=ONE.id)
    path.unlink()
    contents = {"deep": DEEP + b"\n", "nan": b"NaN\n", "numbers": b"9" * 5000 + b"\n", "long": b'{"id": "' + b"x" * 100_000 + b'"}\n'}
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(contents[kind])
    _all_steps(live)


@pytest.mark.parametrize(
    "line", ["[]", "{", '{"event": ["failed"], "id": "x"}', '{"event": "failed", "id": ["x"]}', '{"event": NaN, "id": "x"}']
)
def test_behind_a_line_that_cannot_be_read_a_host_is_not_taken_to_be_at_rest(live: Host, line: str) -> None:
    one = live.home.find(ONE.digest)
    assert live.home.at_rest(one)
    with (live.home.path / "log.jsonl").open("a") as stream:
        stream.write(f"{line}\n")
    assert not live.home.at_rest(one)
    assert live.stage(package("3.0"))["state"] == "staged"  # which looks for what may go
    # So going back starts the release before anew, and then all is known again.
    assert live.back_out(TWO, ONE)["changed"]
    assert live.home.at_rest(one)


@pytest.mark.parametrize("token", [b"", b"-1", b"1.5", b"1_000", b"0x10", b"9" * 30, "١٢".encode(), b"5\n5", b"\xff", b"NaN"])
def test_a_token_that_is_none_is_refused(live: Host, token: bytes) -> None:
    (live.home.path / "token").write_bytes(token)
    with pytest.raises(HostError, match="token is damaged"):
        live.home.fence(10**17)


@pytest.mark.parametrize(
    "harm",
    [
        *({"path": "a\0b"}, {"path": "\ud800"}, {"path": 5}, {"type": "pipe"}, {"type": []}),
        *({"mode": "755"}, {"mode": 420.0}, {"mode": True}, {"size": float("nan")}, {"size": -1}, {"size": 1 << 62}),
    ],
)
def test_a_record_with_an_odd_entry_is_no_release(live: Host, harm: dict[str, Any]) -> None:
    record = live.home.releases / ONE.id / "release.json"
    texts = Texts.of_record(record.read_bytes())
    index = json.loads(texts.file_index)
    next(entry for entry in index["files"] if entry["type"] == "file").update(harm)
    manifest = json.loads(texts.manifest)
    (layer,) = (layer for layer in manifest["layers"] if layer["mediaType"] == INDEX)
    file_index = json.dumps(index).encode()
    layer["digest"] = f"sha256:{sha(file_index)}"
    texts = texts._replace(file_index=file_index, manifest=json.dumps(manifest).encode())
    record.write_bytes(texts.record())
    forged = live.home.id_of("1.0", texts.digest)
    record.parent.rename(live.home.releases / forged)
    live.home.current.unlink()
    live.home.current.symlink_to(f"releases/{forged}/tree")
    live.home._read.clear()
    assert live.home.get(forged) is None
    with pytest.raises(HostError, match="is not a release"):
        live.home.live()


def test_a_pipe_in_place_of_the_log_is_not_written_to(live: Host, tmp_path: Path) -> None:
    log = live.home.path / "log.jsonl"
    log.unlink()
    os.mkfifo(log)
    with pytest.raises((HostError, OSError)):
        live.home.append("staged", ONE.id)
