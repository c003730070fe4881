# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention: whatever happens in whatever order, what somebody may need to go back to is still there."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bed import Host, Package, package
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GOOD = [package(f"{number}.0", hooks={}, health=[{"name": "runs", "command": ["true"], "timeout": 5}]) for number in range(5)]
BAD = [package(f"{number}.1", hooks={}, health=[{"name": "runs", "command": ["false"], "timeout": 0.01}]) for number in range(2)]
ALL = [*GOOD, *BAD]

DEPLOYMENT = st.tuples(
    st.integers(0, len(ALL) - 1),
    st.integers(1, 3),
    st.sets(st.integers(0, len(ALL) - 1), max_size=2),
    st.sampled_from(["stage", "activate", "back_out"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(DEPLOYMENT, min_size=1, max_size=8))
def test_live_stable_and_protected_releases_stay_and_the_rest_goes(steps: list[tuple[int, int, set[int], str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder) / "root")
        good: list[str] = []  # ids, the last one is the last stable
        live: Package | None = None
        present: set[str] = set()
        for number, keep, protected, end in steps:
            what, previous = ALL[number], live
            protect = {ALL[other].digest for other in protected}
            host.stage(what, keep, tuple(protect))

            before, present = present, {release.id for release in host.home.all()}
            sacred = {what.id, *([live.id] if live else []), *good[-1:]}
            sacred |= {other.id for other in ALL if other.digest in protect and other.id in before}
            assert sacred <= present <= before | {what.id}
            if what.id not in before:
                assert len(present) <= max(keep, len(sacred))
            assert host.live == (live.version if live else None)
            host.assert_whole()

            if end != "stage":
                answer = host.activate(what, previous)
                good = [known for known in good if known != what.id]
                if what in GOOD:
                    assert answer["state"] == "active"
                    live = what
                else:
                    assert answer["state"] == ("failed" if previous is not what else "stuck")
                    live = previous
                good += [live.id] if live else []
            if end == "back_out":
                assert host.back_out(what, previous)["state"] == "backed_out"
                live = previous
                good = [known for known in good if known != what.id and (not live or known != live.id)]
                good += [live.id] if live else []
            good = [known for index, known in enumerate(good) if known not in good[index + 1 :]]
            good = [known for known in good if known in present]
            assert host.live == (live.version if live else None)
            assert host.home.stable() == (good[-1] if good else None)
