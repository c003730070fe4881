# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as a page and as a drawing: hostile names are text, and a large fleet is no large page."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import check_plan_file, write_plan
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import render_plan, render_plan_drawing

HOSTILE = "<script>alert(1)</script>&\"'"


def plan(*waves: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    about = {"rfc": "CHG1", "release": "hello", "version": "1.0", "deployment": None, "state": None, "warnings": []}
    numbered = [{"number": number, "not_before": None, "instant": None, "hosts": hosts} for number, hosts in enumerate(waves, 1)]
    return {**about, "at_least": 1, "at_least_why": "the canary", "waves": numbered, **changes}


def host(name: str, why: str = "after db1", **changes: Any) -> dict[str, Any]:
    return {"host": name, "from": None, "why": why, "state": None, **changes}


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
    assert write_plan(plan([host("web1")]), file, write=True) == [str(file)]
    assert write_plan(plan([host("web2")]), file, write=True) == [str(file)]
    assert write_plan(plan([host("web2")]), file, write=True) == []
    others = tmp_path / f"other.{suffix}"
    others.write_text('{"our": "only copy"}')
    with pytest.raises(TidegateError, match="is no plan, and is not overwritten; give another file"):
        check_plan_file(others)
    with pytest.raises(TidegateError, match="is a directory; give a file for the plan"):
        check_plan_file(_folder(tmp_path / f"folder.{suffix}"))
    with pytest.raises(TidegateError, match="nowhere is no directory, so no plan is written there"):
        check_plan_file(tmp_path / "nowhere" / f"plan.{suffix}")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
