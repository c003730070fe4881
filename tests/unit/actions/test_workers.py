# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts are shared out to processes, each of which says what became of its own, and ends with who began it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.workers import do_shares, shares
from waiting import wait_until


def names(count: int) -> list[str]:
    return [f"h{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("count", "processors", "sizes"), [(1, 8, [1]), (23, 8, [23]), (24, 8, [12, 12]), (50, 2, [25, 25]), (50, 1, [50])]
)
def test_a_process_is_for_as_many_hosts_as_are_worth_it(count: int, processors: int, sizes: list[int]) -> None:
    parts = shares(names(count), processors)
    assert [len(part) for part in parts] == sizes
    assert sorted(host for part in parts for host in part) == sorted(names(count))


def by_whom(part: Sequence[str]) -> dict[str, Any]:
    return {host: os.getpid() for host in part}


def test_each_part_is_done_by_a_process_of_its_own_and_the_first_one_by_this() -> None:
    found = do_shares([["a", "b"], ["c"], ["d", "e" * 200_000]], by_whom, by_whom)
    assert set(found) == {"a", "b", "c", "d", "e" * 200_000}
    assert found["a"] == found["b"] == os.getpid()
    assert len({found[host] for host in "acd"}) == 3


def test_what_a_process_does_not_say_is_left_out() -> None:
    def apart(part: Sequence[str]) -> dict[str, Any]:
        if part == ["c"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if part == ["d"]:
            raise ValueError("of this nobody hears")
        return by_whom(part)

    assert set(do_shares([["a"], ["b"], ["c"], ["d"]], by_whom, apart)) == {"a", "b"}


def test_none_is_left_behind_by_who_is_killed(tmp_path: Path) -> None:
    def apart(part: Sequence[str]) -> dict[str, Any]:
        (tmp_path / "child").write_text(str(os.getpid()))
        time.sleep(60)
        return by_whom(part)

    def work(_part: Sequence[str]) -> dict[str, Any]:
        wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    driver = os.fork()
    if driver == 0:
        do_shares([["a"], ["b"]], work, apart)
        os._exit(0)
    os.waitpid(driver, 0)
    child = Path("/proc") / (tmp_path / "child").read_text()
    wait_until(lambda: not child.exists() or (child / "stat").read_text().rpartition(")")[2].split()[0] == "Z")
