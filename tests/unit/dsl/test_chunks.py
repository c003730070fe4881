# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chunks: the same bytes are always cut the same way, and an edit changes the chunks around it alone."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import chunks as subject
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.chunks import LARGE, Chunker
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import Package, archive, load_package, verify_package
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.payload import index_json, parse_index
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.shipment import UNASKED, Shipment, build_pack, lacking, pieces
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyfastcdc import FastCDC

BIG = random.Random(1).randbytes(3 << 20)  # noqa: S311 - the same in every run


def cut(data: bytes, steps: list[int] | None = None) -> tuple[tuple[int, str], ...]:
    chunker = Chunker()
    position = 0
    for step in steps or []:
        chunker.update(data[position : position + step])
        position += step
    chunker.update(data[position:])
    return chunker.chunks()


# What is cut, and the sha256 over the JSON of length and digest of its chunks; below, how long the first chunks of noise are.
GOLDEN = {
    "nothing": (b"", "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"),
    "one byte": (b"x", "fb32e03cb71457045a44f5164ed3b95948a0e1bfb7419a3a701248fbde1c78e4"),
    "no end in it": (bytes(3 * LARGE + 5), "0a58b6c0ebb4edda3aa439ab91143aa60fdffde9cba5becc0b77cd9589e9a37c"),
    "noise": (BIG, "2bea163017b95d949e09f4a04d2542f2cdf2da36b36a8c330978d2183b39bdae"),
    "an odd length": (BIG[: 2 * LARGE + 1], "cdbbd26d32f3e9e87dbe501036fb235300621c92d9209d11f02426362e4b6583"),
    "an end at the last byte, which is odd": (BIG[:33259], "d897a0e14fd49f5364e459f7fabe86f541b67c0d5d50f12ac9e40fb64d6c9a55"),
    "text": (
        b"".join(b"line %d of a file\n" % number for number in range(60_000)),
        "3a4bc551ad4faa6f998f7d82cbd4ff6dce52b30bafa1177c87b54562e5f27d12",
    ),
}
LENGTHS = (33258, 78308, 80973, 39403, 28737, 67810, 159371, 71728)


@pytest.mark.parametrize("means", ["pyfastcdc", "python", "another"])
@pytest.mark.parametrize("kind", GOLDEN)
def test_these_bytes_are_cut_so_for_ever_by_whatever_means(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str, means: str
) -> None:
    """A new version of the library, or none, must not make another package of the same software."""
    if means == "python":
        monkeypatch.delattr(subject, "pyfastcdc")
    elif means == "another":  # as a version with another rule would be
        monkeypatch.setattr(subject, "pyfastcdc", SimpleNamespace(FastCDC=lambda **sizes: FastCDC(normalized_chunking=2, **sizes)))
    subject._is_fast.cache_clear()
    request.addfinalizer(subject._is_fast.cache_clear)
    assert subject._is_fast() == (means == "pyfastcdc")
    data, digest = GOLDEN[kind]
    chunks = cut(data)
    assert hashlib.sha256(json.dumps(chunks).encode()).hexdigest() == digest
    assert kind != "noise" or tuple(length for length, _sha256 in chunks)[: len(LENGTHS)] == LENGTHS


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    sizes=st.lists(st.integers(0, 150_000), min_size=1, max_size=4),
    runs=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=3),
)
@example(seed=0, sizes=[16 << 10], runs=[b"\0"])
@example(seed=0, sizes=[(16 << 10) + 1], runs=[b"\0"])
@example(seed=0, sizes=[(64 << 10) + 1, 1], runs=[b"\0"])
@example(seed=0, sizes=[LARGE, 1], runs=[b"\0"])
def test_python_alone_cuts_as_the_library_does(seed: int, sizes: list[int], runs: list[bytes]) -> None:
    noise = random.Random(seed)  # noqa: S311 - the same in every run
    parts = [noise.randbytes(size) if index % 2 == 0 else (runs[index % len(runs)] * size)[:size] for index, size in enumerate(sizes)]
    data = b"".join(parts)
    assert list(subject._lengths(data)) == list(subject._fast_lengths(data))


@settings(max_examples=20, deadline=None)
@given(size=st.integers(0, len(BIG)), steps=st.lists(st.integers(0, 1 << 20), max_size=5))
@example(size=len(BIG), steps=[700_000, 1, 800_000])
def test_the_result_does_not_depend_on_how_the_bytes_come(size: int, steps: list[int]) -> None:
    with mock.patch.object(subject, "_WINDOW", 600_000):
        chunks = cut(BIG[:size], steps)
    assert chunks == cut(BIG[:size])
    position = 0
    for length, sha256 in chunks:
        assert 0 < length <= LARGE
        assert hashlib.sha256(BIG[position : position + length]).hexdigest() == sha256
        position += length
    assert position == size


@settings(max_examples=20, deadline=None)
@given(where=st.integers(0, len(BIG)), what=st.binary(min_size=1, max_size=100), drop=st.integers(0, 100))
def test_an_edit_changes_few_chunks(where: int, what: bytes, drop: int) -> None:
    edited = cut(BIG[:where] + what + BIG[where + drop :])
    assert len(set(edited) - set(cut(BIG))) <= 4


# -- in a package -------------------------------------------------------------

MakeRelease = Callable[..., Path]


def archived(home: OciLayout, release: Path) -> Package:
    digest = archive(release, home).digest
    verify_package(home, digest)
    return load_package(home, digest)


@pytest.fixture
def two(home: OciLayout, make_release: MakeRelease) -> tuple[Package, Package]:
    files = {"bin/hello": b"hello", "data": BIG, "edge": BIG[:LARGE], "just": BIG[: LARGE + 1]}
    one = archived(home, make_release("one", files))
    files |= {"data": BIG[:99] + b"edit" + BIG[99:], "new": b"new"}
    return one, archived(home, make_release("two", files, version="2.0"))


def test_files_above_the_limit_have_chunks_and_the_index_comes_back(two: tuple[Package, Package]) -> None:
    entries = {entry.path: entry for entry in two[0].files}
    assert [path for path, entry in entries.items() if entry.chunks] == ["data", "just"]
    assert entries["data"].chunks == cut(BIG)
    assert parse_index(index_json(two[0].files)) == two[0].files


def test_what_an_upgrade_lacks_is_the_new_contents_and_chunks(two: tuple[Package, Package], home: OciLayout, tmp_path: Path) -> None:
    one, other = two
    missing = lacking(other, one)
    assert hashlib.sha256(b"new").hexdigest() in missing
    size = sum(pieces(other)[sha256][1] for sha256 in missing)
    assert size <= 2 * LARGE
    assert build_pack(home, other, missing, tmp_path).stat().st_size <= 1.2 * size
    assert lacking(one, one) == []
    whole = {entry.sha256 for entry in one.files if entry.sha256 and not entry.chunks}
    assert set(lacking(one, None)) == whole | {sha256 for entry in one.files for _length, sha256 in entry.chunks or ()}


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        {},
        "x",
        [[1]],
        [[1, "0" * 64]],
        [[0, "0" * 64], [LARGE + 1, "1" * 64]],
        [[LARGE + 1, "0" * 64]],
        [[LARGE, "0" * 64], [1, "x" * 64]],
        [[LARGE, "0" * 64], [True, "1" * 64]],
        [[LARGE, "0" * 64], [1.0, "1" * 64]],
        [[LARGE, "0" * 64], [1, "0" * 64]],
        [[LARGE, "0" * 64], [1, None]],
    ],
)
def test_chunks_that_do_not_add_up_are_refused(two: tuple[Package, Package], chunks: Any) -> None:
    document = json.loads(two[0].index_bytes)
    next(entry for entry in document["files"] if entry["path"] == "just")["chunks"] = chunks
    with pytest.raises(IntegrityError, match="bad entry"):
        parse_index(json.dumps(document).encode())


def test_an_index_without_chunks_is_still_read(two: tuple[Package, Package]) -> None:
    document = json.loads(two[0].index_bytes)
    for entry in document["files"]:
        entry.pop("chunks", None)
    assert all(entry.chunks is None for entry in parse_index(json.dumps(document).encode()))


# -- what a run sends -----------------------------------------------------------


def test_what_was_made_once_is_not_made_again(
    two: tuple[Package, Package], home: OciLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    first = Shipment(lambda: home, other.digest, tmp_path)
    documents, expected, whole = first.documents(), first.expected(one.digest), first.whole()
    pack = first.pack(lacking(other, None))
    again = Shipment(lambda: home, other.digest, tmp_path)
    monkeypatch.setattr(Shipment, "package", property(lambda _self: pytest.fail("was loaded again")))
    assert again.documents() == documents
    assert again.expected(one.digest) == expected == again.pack(lacking(other, one))
    assert again.pack(reversed(lacking(other, None))) == again.whole() == whole == pack


def test_what_is_expected_to_lack_is_sent_unasked_only_when_it_is_small(
    two: tuple[Package, Package], home: OciLayout, make_release: MakeRelease, tmp_path: Path
) -> None:
    one, other = two
    small = archived(home, make_release("small", version="3.0"))
    shipment = Shipment(lambda: home, other.digest, tmp_path)
    assert shipment.expected("sha256:" + "0" * 64) is None  # not in this library
    assert shipment.expected(other.digest) is None  # nothing
    assert Shipment(lambda: home, one.digest, tmp_path).expected(small.digest) is None  # does not get small
    path = shipment.expected(one.digest)
    assert path is not None
    assert path.stat().st_size <= UNASKED
