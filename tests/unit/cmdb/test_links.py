# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.links import NAMED, Chain, Head, link, plain

AT = datetime(2027, 5, 3, 20, 11, 9, 1, tzinfo=UTC)
LINE: dict[str, Any] = {"seq": 2, "at": AT, "actor": "é", "ci": None, "event": "created", "data": {"b": [1, None], "a": 1.5}, "asset": None}


def test_a_line_is_hashed_as_the_page_says() -> None:
    content = (
        '{"actor":"\\u00e9","at":"2027-05-03T20:11:09.000001+00:00","data":{"a":1.5,"b":[1,null]},'
        '"event":"created","previous":"ab","seq":2}'
    )
    assert link(LINE, "ab") == hashlib.sha256(content.encode()).hexdigest()


def test_a_line_has_one_sha256_whatever_zone_its_moment_is_in_and_what_columns_are_added() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert link({**LINE, "at": elsewhere, "of_later": None, "sha256": "x"}, "ab") == link(LINE, "ab")


@pytest.mark.parametrize("column", ["seq", "at", "actor", "event", "data"])
def test_each_column_and_the_line_before_make_another_sha256(column: str) -> None:
    other = {"seq": 3, "at": AT + timedelta(microseconds=1), "actor": "e", "event": "x", "data": {}}
    assert link({**LINE, column: other[column]}, "ab") != link(LINE, "ab")
    assert link(LINE, "ac") != link(LINE, "ab")
    assert link({**LINE, "ci": "web1"}, "ab") != link(LINE, "ab")


def test_data_are_hashed_as_a_database_gives_them_back() -> None:
    assert plain({1: (2, "x"), "b": {"c": None}}) == {"1": [2, "x"], "b": {"c": None}}


def _lines(count: int) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for seq in range(1, count + 1):
        line = {**LINE, "seq": seq}
        lines.append({**line, "sha256": link(line, lines[-1]["sha256"] if lines else "")})
    return lines


def test_so_many_faults_are_named_and_all_are_counted() -> None:
    lines = [{**line, "actor": "mallory"} for line in _lines(NAMED + 20)]
    chain = Chain("history")
    assert list(chain.over(lines)) == lines
    chain.end(Head(NAMED + 20, lines[-1]["sha256"]))
    assert (len(chain.faults), chain.count, chain.lines) == (NAMED, NAMED + 20, NAMED + 20)


def test_numbers_that_were_never_given_are_no_fault() -> None:
    first = _lines(1)[0]
    line = {**LINE, "seq": 7}
    lines = [first, {**line, "sha256": link(line, first["sha256"])}]
    chain = Chain("history", [(Head(9, lines[-1]["sha256"]), "a report")])
    assert list(chain.over(lines)) == lines
    chain.end(Head(9, lines[-1]["sha256"]))  # the database had given two more, of which nothing was committed
    assert chain.faults == []
