# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as a page and as a drawing: hostile names are text, and a large fleet is no large page."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import html5lib
import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import PLAN_FILE
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import draw_plan, render_plan, render_plan_drawing

HOSTILE = "<script>alert(1)</script>&\"'"


def plan(*waves: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    about = {"rfc": "CHG1", "release": "hello", "version": "1.0", "deployment": None, "state": None, "warnings": []}
    about |= {"change": None, "estimate": None, "calendar": [], "gates": [], "decide": [], "no_return": ""}
    numbered = [{"number": number, "not_before": None, "instant": None, "hosts": hosts} for number, hosts in enumerate(waves, 1)]
    return {**about, "at_least": 1, "at_least_why": "the canary", "waves": numbered, **changes}


def host(name: str, why: str = "after db1", **changes: Any) -> dict[str, Any]:
    return {"host": name, "from": None, "why": why, "state": None, "bytes": None, **changes}


def whole(word: str = "", **changes: Any) -> dict[str, Any]:
    """A plan of which everything is known, in which people wrote ``word``."""
    waves = [[host("web1", bytes=1200, **{"from": f"0.9{word}"})], [host("web2", bytes=2300), host("web3", bytes=2300)]]
    texts = ("type", "requested_by", "assigned_to", "backout_plan", "test_plan", "communication_plan", "title")
    change = {**{name: f"the {name}{word}" for name in texts}, "risk": 3, "start": "2027-03-01T21:00:00+00:00"}
    times = [{"start": f"2027-03-01T22:{start}+01:00", "end": f"2027-03-01T22:{end}+01:00"} for start, end in (("10", "20"), ("20", "30"))]
    freeze = {"kind": "freeze", "summary": f"quarter{word}", "start": "2027-03-01T21:15:00Z", "end": "2027-03-02T00:00:00Z"}
    about: dict[str, Any] = {
        "change": {**change, "end": "2027-03-01T23:00:00+00:00"},
        "estimate": {"by": f"by the last{word}", "seconds": 1200, "waves": times},
        "calendar": [freeze],
        "gates": [f"after each wave{word}"],
        "decide": [{"what": f"approve{word}", "role": f"manager{word}", "count": 2, "people": [f"rita{word}"]}],
        "no_return": f"data are migrated{word}",
    }
    return plan(*waves, **about | changes)


def test_the_page_of_a_plan_says_all_that_a_reader_of_its_rfc_asks() -> None:
    text = " ".join(" ".join(html5lib.parse(render_plan(whole()), namespaceHTMLElements=False).find("body").itertext()).split())
    for said in (
        "the title",
        "Wave 1 of 2 1 host, 0.9 → 1.0, 1.2 kB about 03-01 21:10 to 03-01 21:20 UTC",
        "Wave 2 of 2 2 hosts, nothing → 1.0, 4.6 kB about 03-01 21:20 to 03-01 21:30 UTC",
        "About 20 min in all, from 2027-03-01 21:10:00 UTC to 2027-03-01 21:30:00 UTC: by the last.",
        "freeze quarter: 2027-03-01 21:15:00 UTC to 2027-03-02 00:00:00 UTC",
        "5.8 kB at most in all, before packing",
        "Point of no return: data are migrated",
        "after each wave",
        "approve 2 manager rita",
        "the backout_plan",
    ):
        assert said in text, said


def test_the_drawing_of_a_plan_has_its_waves_beside_the_freezes_of_their_time() -> None:
    drawn = draw_plan(whole())
    assert drawn.strip is not None
    rows = {row.label: row.bars[0][0] for row in drawn.strip.rows}
    assert list(rows) == ["window of the RFC", "quarter", "wave 1", "wave 2"]
    assert rows["quarter"].left < rows["wave 2"].left + rows["wave 2"].width
    assert 'class="cell freeze"' in render_plan_drawing(whole())
    assert drawn.height > drawn.strip_y > drawn.lanes[-1].y


def test_a_plan_in_which_everything_is_an_attack_is_text() -> None:
    for text in (render_plan(whole(HOSTILE)), render_plan_drawing(whole(HOSTILE))):
        assert "<script" not in text
    html5lib.HTMLParser(strict=True).parse(render_plan(whole(HOSTILE)))
    ElementTree.fromstring(render_plan_drawing(whole(HOSTILE)))  # noqa: S314 - our own


def test_what_people_write_is_text_on_the_page_and_in_the_drawing() -> None:
    hostile = plan([host(HOSTILE, HOSTILE)], rfc=HOSTILE, at_least_why=HOSTILE, warnings=[HOSTILE], version=HOSTILE)
    for text in (render_plan(hostile), render_plan_drawing(hostile)):
        assert "<script" not in text
    assert HOSTILE[:20] in "".join(ElementTree.fromstring(render_plan_drawing(hostile)).itertext())  # noqa: S314 - our own


def test_each_host_is_there_with_its_reason_and_its_version() -> None:
    text = render_plan(plan([host("web1", "the canary, the first in order")], [host("web2", **{"from": "0.9"}), host("web3", "after db2")]))
    assert all(
        said in text for said in ("web1", "web2", "web3", "0.9 → 1.0", "nothing → 1.0", "after db1", "after db2", "and 1 more reason")
    )


def test_a_plan_of_a_deployment_of_an_older_collection_has_no_bound() -> None:
    text = render_plan(plan([host("web1", "not recorded", state="active")], at_least=None, deployment="CHG1#7", state="activating"))
    assert "not fewer" not in text
    assert "CHG1#7" in text


def test_a_hundred_thousand_hosts_of_which_each_has_a_reason_are_no_large_page() -> None:
    fleet = plan(
        *([host(f"h{number:06}", f"after db{number}") for number in range(start, start + 100)] for start in range(0, 100_000, 100))
    )
    assert len(render_plan(fleet)) < 600_000
    assert len(render_plan_drawing(fleet)) < 400_000
    assert "800 more waves that are not drawn here" in render_plan(fleet)
    assert "99500 more rows; the plan as .json has all of them." in render_plan(fleet)


@pytest.mark.parametrize("suffix", ["html", "svg", "json"])
def test_a_file_that_is_no_plan_is_left_alone(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"plan.{suffix}"
    file.touch()  # as mktemp does
    assert PLAN_FILE.write(plan([host("web1")]), file, write=True) == [str(file)]
    assert PLAN_FILE.write(plan([host("web2")]), file, write=True) == [str(file)]
    assert PLAN_FILE.write(plan([host("web2")]), file, write=True) == []
    others = tmp_path / f"other.{suffix}"
    others.write_text('{"our": "only copy"}')
    with pytest.raises(TidegateError, match="has something else than a plan in it, and is not overwritten; give another file"):
        PLAN_FILE.check(others)
    with pytest.raises(TidegateError, match="is a directory; give a file for a plan"):
        PLAN_FILE.check(_folder(tmp_path / f"folder.{suffix}"))
    with pytest.raises(TidegateError, match="nowhere is no directory, so nothing is written there"):
        PLAN_FILE.check(tmp_path / "nowhere" / f"plan.{suffix}")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
