# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a deployment before it begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive, load_package
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.model import Bake, Compared, Metric
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Past
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.forecast import (
    Step,
    Transfer,
    bake_lines,
    hopeless_comparisons,
    in_bytes,
    in_time,
    plan_lines,
    role_lines,
    transfer,
    window_line,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout

NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)
SMALL, LARGE = Transfer(1, 3), Transfer(120, 1_200_000)
MANIFEST = """
schema: 1
name: hello
version: "{version}"
type: minor
summary: x
payload: payload
documentation: [README.md]
health: [{{name: there, command: [/bin/true], timeout: 5}}]
"""


def test_every_host_is_named_in_its_wave_with_the_versions_and_what_it_is_sent() -> None:
    steps = [Step(1, "web1", "1.0", SMALL), Step(2, "web2", "1.0", SMALL), Step(2, "web3", None, LARGE), Step(2, "web4", "1.0", SMALL)]
    assert list(plan_lines(steps, "1.1")) == [
        "  wave 1/2: web1: 1.0 -> 1.1, 1 file, 3 bytes",
        "  wave 2/2: web2, web4: 1.0 -> 1.1, 1 file, 3 bytes each",
        "  wave 2/2: web3: nothing -> 1.1, 120 files, 1.2 MB",
        "  in all: 1.2 MB at most to 4 hosts, before packing",
    ]


@pytest.mark.parametrize(
    ("past", "left", "said"),
    [
        ([], 60, "1 h 0 min from now; no earlier deployment of hello to estimate from"),
        ([Past(600, 2)], 60, "by the last deployment of hello it takes about 20 min"),
        ([Past(600, 2), Past(60, 1), Past(9000, 3)], 60, "by the last 3 deployments of hello it takes about 20 min"),
        ([Past(600, 2)], 10, "about 20 min, which is too long: the gates would hold"),
        (
            [Past(600, 0)],
            -10,
            "about 40 min, which is too long: the gates would hold",
        ),
    ],
)
def test_the_window_is_held_against_what_earlier_deployments_took(past: list[Past], left: int, said: str) -> None:
    line = window_line(NOW, NOW + timedelta(minutes=left), 4, past, "hello")
    assert line.startswith("  window: until 2027-03-01T2")
    assert line.endswith(said)


def test_what_a_host_has_is_not_sent_again(tmp_path: Path) -> None:
    library = OciLayout.create(tmp_path / "dsl")
    packages = []
    for version in ("1.0", "1.1"):
        folder = tmp_path / version
        (folder / "payload").mkdir(parents=True)
        (folder / "README.md").write_text("hello")
        (folder / "release.yml").write_text(MANIFEST.format(version=version))
        for name, content in (("same", "a" * 1000), ("copy", "a" * 1000), ("version", version), ("link", None)):
            if content is None:
                (folder / "payload" / name).symlink_to("same")
            else:
                (folder / "payload" / name).write_text(content)
        packages.append(load_package(library.repository("hello"), archive(folder, library.repository("hello")).digest))
    old, new = packages
    assert transfer(new, old) == Transfer(1, 3)
    assert transfer(new, None) == Transfer(3, 1003)  # one content is sent once
    assert transfer(new, new) == Transfer(0, 0)


def test_sizes_and_times_are_written_for_people() -> None:
    assert [in_bytes(size) for size in (0, 999, 1000, 12_345, 4_000_000, 5 * 10**12)] == [
        *("0 bytes", "999 bytes", "1.0 kB", "12.3 kB", "4.0 MB", "5000.0 GB"),
    ]
    assert [in_time(seconds) for seconds in (-1, 40.4, 119, 120, 7500)] == ["0 s", "40 s", "119 s", "2 min", "2 h 5 min"]


def test_a_plan_says_where_data_are_changed_and_that_there_is_no_way_back() -> None:
    tasks = {"migrate": ["Add a column"], "activate": ["Write"], "back_out": ["Remove"], "reverse": ["Drop the column"]}
    assert list(role_lines(tasks, "db1", no_return=False)) == [
        "  role, migrate (once, on db1, before the first wave): Add a column",
        "  role, activate: Write",
        "  role, back_out (on hosts that go back): Remove",
        "  role, reverse (once, on db1, when all hosts are back): Drop the column",
    ]
    assert next(role_lines(tasks, "db1", no_return=True)).startswith("  point of no return: data are migrated before the first wave")


def test_what_is_measured_is_said_with_how_long_that_takes() -> None:
    plain = Bake(10, (Metric("errors", "x", good="< 1"), Metric("load", "x", bad="> 9")))
    comparing = Bake(30, (Metric("latency", "x", compare=Compared("values")),))
    assert list(bake_lines(Rollout())) == []
    assert list(bake_lines(Rollout(bake=plain))) == ["  bake of each wave: 10 min at least, errors (< 1), load (not > 9)"]
    assert list(bake_lines(Rollout(bake=plain, canary_bake=comparing))) == [
        "  bake of wave 1: 30 min at least, latency (values against the release before)",
        "  bake of each later wave: 10 min at least, errors (< 1), load (not > 9)",
    ]


def test_a_canary_that_can_say_nothing_is_known_beforehand() -> None:
    rollout = Rollout(canary_bake=Bake(1, (Metric("latency", "x", compare=Compared("values")), Metric("errors", "x", good="< 1"))))
    hosts = [f"web{number}" for number in range(20)]
    assert hopeless_comparisons(rollout, [hosts[:2], hosts[2:]], hosts) == []
    assert hopeless_comparisons(Rollout(), [hosts[:1], hosts[1:]], hosts) == []
    assert hopeless_comparisons(rollout, [hosts[:1], hosts[1:]], hosts) == [
        "the gate of wave 1 will hold, for latency can't be compared: 1 against 19 hosts can't give p below 0.05 whatever is "
        "measured; 2 of them could"
    ]
    assert "no other host of the plan has the release before" in hopeless_comparisons(rollout, [hosts], hosts)[0]
    assert "no other host of the plan has the release before" in hopeless_comparisons(rollout, [hosts[:2], hosts[2:]], hosts[:2])[0]
