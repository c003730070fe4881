# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large files: a host receives the chunks that it lacks, and what it puts together is what was archived."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import pieces
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from bed import Host, Package, assemble, killed_at, package, sha

RANDOM = random.Random(7)  # noqa: S311 - only has to be incompressible
BIG = RANDOM.randbytes(3 << 20)
EDITED = BIG[: 1 << 20] + b"something new in the middle" + BIG[1 << 20 :]
ONE = package("1.0", {"data/big": BIG, "data/small": b"s"})
TWO = package("2.0", {"data/big": EDITED, "data/copy": EDITED, "bin/copy": EDITED, "data/small": b"s"})


def chunks(what: Package, path: str = "data/big") -> dict[str, int]:
    entry = next(entry for entry in json.loads(what.documents[2])["files"] if entry["path"] == path)
    return {name: length for length, name in entry["chunks"]}


def size(what: Package, need: list[str]) -> int:
    return sum(len(what.pieces[name]) for name in need)


def test_a_first_install_puts_large_files_together_out_of_chunks(host: Host) -> None:
    assert set(host.ask(ONE)["need"]) == (set(ONE.contents) - {sha(BIG)}) | set(chunks(ONE))
    host.stage(ONE)
    host.assert_whole()
    assert (host.tree(ONE) / "data/big").read_bytes() == BIG


def test_an_upgrade_needs_the_changed_chunks_alone(host: Host) -> None:
    host.stage(ONE)
    need = host.ask(TWO)["need"]
    assert set(need) == {sha(b"2.0")} | (chunks(TWO).keys() - chunks(ONE).keys())
    assert len(need) <= 3
    packed = len(TWO.pack(need))
    assert packed <= 1.2 * size(TWO, need)
    answer = host.stage(TWO)
    assert (answer["state"], answer["sent"]) == ("staged", len(need))
    host.assert_whole()
    assert (host.tree(TWO) / "data/big").stat().st_ino != (host.tree(TWO) / "data/copy").stat().st_ino
    assert (host.tree(ONE) / "data/big").read_bytes() == BIG


def test_a_name_that_the_host_s_locale_does_not_have_is_found_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.stage(package("1.0", {"data/gro\u00df": BIG}))
    monkeypatch.setattr(os, "fsencode", lambda path: os.fspath(path).encode("ascii"))  # as where the locale is C
    edited = package("2.0", {"data/gro\u00df": EDITED})
    assert len(host.ask(edited)["need"]) <= 3
    host.stage(edited)
    host.assert_whole()


def test_the_same_chunk_in_many_places_is_sent_once(host: Host) -> None:
    zeros = package("3.0", {"data/zeros": bytes(2 << 20), "data/more": bytes(3 << 20)})
    need = host.ask(zeros)["need"]
    assert len(need) == len(set(need)) <= len(zeros.contents) + 2
    host.stage(zeros)
    host.assert_whole()


def test_a_chunk_may_belong_to_more_places_than_a_process_may_have_files(host: Host) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        host.stage(package("3.0", {"data/zeros": bytes(20 << 20)}))
        host.assert_whole()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_is_empty_is_not_asked_for(host: Host) -> None:
    host.stage(ONE)
    assert host.ask(package("2.0", {"data/big": BIG, "data/small": b"s", "empty": b""}))["need"] == [sha(b"2.0")]
    assert host.ask(package("1.0.1", {"version": b"1.0", "data/small": b"s", "empty": b"", "bin/empty": b""}))["state"] == "staged"
    host.assert_whole()


def test_a_large_file_of_a_package_without_chunks_comes_whole(host: Host) -> None:
    index = json.loads(TWO.documents[2])["files"]
    for entry in index:
        entry.pop("chunks", None)
    plain = assemble(json.loads(TWO.documents[1]), index, TWO.contents, TWO.payload)
    host.stage(ONE)
    assert sha(EDITED) in host.ask(plain)["need"]
    host.stage(plain)
    host.assert_whole()
    # What it brought serves as whole contents.
    assert host.ask(TWO)["state"] == "staged"


def test_a_large_file_that_was_edited_on_the_host_lends_its_sound_chunks_only(host: Host) -> None:
    host.stage(ONE)
    with (host.tree(ONE) / "data/big").open("r+b") as stream:
        stream.seek(2 << 20)
        stream.write(b"evil")
    need = host.ask(TWO)["need"]
    assert len(set(need) & set(chunks(ONE))) == 1
    host.stage(TWO)
    assert (host.tree(TWO) / "data/big").read_bytes() == EDITED


def test_a_chunk_that_changes_after_it_was_found_is_asked_for(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.stage(ONE)
    pack = tmp_path / "pack"
    pack.write_bytes(TWO.pack(host.ask(TWO)["need"]))
    begin = pieces.Assembly.begin

    def edit_first(assembly: pieces.Assembly) -> None:
        with (host.tree(ONE) / "data/big").open("r+b") as stream:
            stream.write(b"evil")
        begin(assembly)

    monkeypatch.setattr(pieces.Assembly, "begin", edit_first)
    answer = host.ask(TWO, pack)
    assert answer["state"] == "lacking"
    assert len(answer["need"]) == 1
    monkeypatch.undo()
    host.stage(TWO)
    assert (host.tree(TWO) / "data/big").read_bytes() == EDITED


def test_a_pack_with_less_than_needed_is_used_and_the_rest_asked_for(host: Host, tmp_path: Path) -> None:
    need = host.ask(TWO)["need"]
    pack = tmp_path / "pack"
    pack.write_bytes(TWO.pack(need[::2]))
    answer = host.ask(TWO, pack)
    assert (answer["state"], answer["need"]) == ("lacking", need[1::2])
    assert os.listdir(host.home.releases) == []
    pack.write_bytes(TWO.pack(need[1::2]))
    assert host.ask(TWO, pack)["state"] == "staged"
    host.assert_whole()


def test_a_pack_with_more_than_needed_does_no_harm(host: Host, tmp_path: Path) -> None:
    host.stage(ONE)
    pack = tmp_path / "pack"
    pack.write_bytes(TWO.pack(sorted(TWO.pieces)))
    assert host.ask(TWO, pack)["state"] == "staged"
    host.assert_whole()


def test_a_pack_with_a_false_chunk_is_refused_and_costs_nothing_but_that_chunk(host: Host, tmp_path: Path) -> None:
    need = host.ask(ONE)["need"]
    false = next(name for name in reversed(need) if name in chunks(ONE))
    spoilt = Package("1.0", ONE.documents, ONE.contents, ONE.payload.replace(ONE.pieces[false], bytes(len(ONE.pieces[false]))))
    pack = tmp_path / "pack"
    pack.write_bytes(spoilt.pack(need))
    with pytest.raises(HostError, match=f"the pack .* sha256:{false}"):
        host.ask(ONE, pack)
    assert host.ask(ONE)["need"] == need[need.index(false) :]
    host.stage(ONE)
    host.assert_whole()


def test_chunks_that_do_not_make_the_file_are_found_out(host: Host) -> None:
    index = json.loads(ONE.documents[2])["files"]
    entry = next(entry for entry in index if "chunks" in entry)
    entry["chunks"].reverse()
    lie = assemble(json.loads(ONE.documents[1]), index, ONE.contents, ONE.payload)
    pack = host.root.with_name("pack")
    pack.write_bytes(ONE.pack(host.ask(lie)["need"]))
    with pytest.raises(HostError, match=r"the chunks of data/big do not make the file"):
        host.ask(lie, pack)
    assert os.listdir(host.home.releases) == []


@pytest.mark.parametrize("step", range(1, 60, 3))
def test_killed_while_chunks_are_put_together_it_goes_on_with_those_that_are_there(tmp_path: Path, step: int) -> None:
    host = Host(tmp_path / "root")
    host.deploy(ONE)
    killed_at(step, lambda: host.stage(TWO), host.root)
    host.assert_whole()
    assert host.live == "1.0"
    host.stage(TWO)
    host.assert_whole()
    assert os.listdir(host.home.staging) == []


def test_chunks_that_came_before_an_interruption_are_not_asked_for_again(host: Host, tmp_path: Path) -> None:
    need = host.ask(ONE)["need"]
    pack = tmp_path / "pack"
    pack.write_bytes(ONE.pack(need[: len(need) // 2]))
    host.ask(ONE, pack)
    assert host.ask(ONE)["need"] == need[len(need) // 2 :]


def test_half_a_file_that_has_another_name_is_not_written_to(host: Host, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(bytes(len(BIG)))
    (host.home.staging / ONE.id / "tree" / "data").mkdir(parents=True)
    (host.home.staging / ONE.id / "tree" / "data" / "big").hardlink_to(precious)
    host.stage(ONE)
    assert precious.read_bytes() == bytes(len(BIG))
    host.assert_whole()


def test_twenty_releases_in_turn_take_no_more_room_than_those_that_stay(host: Host) -> None:
    previous: Package | None = None
    sizes = []
    content = bytearray(BIG)
    for number in range(20):
        content[number * 100_000 : number * 100_000 + 9] = b"changed %d" % (number % 10)
        release = package(f"{number}.0", {"data/big": bytes(content), "data/same": b"same" * 4096, f"data/{number}": b"x" * 9999})
        host.stage(release, keep=3, protect=(previous.digest,) if previous else ())
        host.activate(release, previous)
        previous = release
        assert len(host.home.all()) <= 3
        assert os.listdir(host.home.staging) == []
        sizes.append(int(subprocess.run(["du", "-sk", host.root], check=True, capture_output=True, text=True).stdout.split()[0]))
    host.assert_whole()
    assert max(sizes[5:]) <= sizes[4] * 1.01 + 8
