# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of a verification: its tests, the rehearsal of the back-out, and the test result that is signed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...module_utils.redaction import NOTHING, Redactor
from ..clearance.controls.verified import missing_step
from ..errors import IntegrityError
from ..evidence.statement import VERIFICATION
from ..strict_json import read_object
from .parity import Parity

PASSED, WARNED, FAILED = "PASSED", "WARNED", "FAILED"
_LISTED = 10_000  # tests that the evidence names
_REASONS = 20
_DETAIL = 500  # signs of why a test failed
_WORSE = {"passed": 0, "skipped": 1}  # any other outcome is a failure


@dataclass(frozen=True)
class Results:
    """Tests by name. ``details``: why those failed that did. ``cut_short``: a run of them did not come to its end.

    ``passed_at``: when, in seconds of the clock, tests passed.
    """

    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    cut_short: bool = False
    passed_at: tuple[float, ...] = ()


@dataclass(frozen=True)
class RoleRehearsal:
    """Which of the ``steps`` of its own role were done in the lab, when the release came and when it went.

    What brings a host back is ``back_out`` of this one, or ``activate`` of the release before; ``back`` has them all. Neither has any for
    hosts when the role did nothing on one of them that it has steps for.
    """

    steps: tuple[str, ...]
    forward: tuple[str, ...] = ()
    back: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rehearsal:
    """What was done with which package in the lab. ``replaced``: the digests of what it took the place of, ``""`` for nothing.

    ``tests``: how many passed after the back-out, or after the deployment when that is all there is: ``no_return`` says that nothing was
    backed out, for nothing brings back what the release does to data. ``fault``: what went wrong, in words. ``role``: what its own role
    did, if it has one.
    """

    digest: str
    deployed: bool = False
    backed_out: bool = False
    tests: int = 0
    replaced: tuple[str, ...] = ()
    fault: str = ""
    role: RoleRehearsal | None = None
    no_return: bool = False


def read_tests(text: str, redactor: Redactor = NOTHING) -> Results:
    """What the plugin for pytest wrote, without what ``redactor`` knows; a line that can't be read is a run that was cut short."""
    results: dict[str, str] = {}
    details: dict[str, str] = {}
    times: list[float] = []
    open_runs, cut_short = 0, False
    for line in text.splitlines():
        try:
            said = read_object(line, "a line of the tests' results")
            event = said["event"]
            if event == "test":
                name, outcome = redactor.text(str(said["name"])), str(said["outcome"])
                times += [float(said["at"])] if outcome == "passed" else []
                # Run twice, after deployment and after back-out, a test has passed when it did both times.
                if _WORSE.get(results.get(name, "passed"), 2) <= _WORSE.get(outcome, 2):
                    results[name], details[name] = outcome, redactor.text(str(said["detail"]))[:_DETAIL]
            elif event == "start":
                cut_short |= open_runs > 0
                open_runs = 1
            elif event == "finish":
                open_runs = 0
        except (IntegrityError, ValueError, KeyError, TypeError):
            cut_short = True
    named = {outcome: tuple(name for name in sorted(results) if results[name] == outcome) for outcome in ("passed", "skipped")}
    failed = tuple(name for name in sorted(results) if results[name] not in ("passed", "skipped"))
    return Results(
        passed=named["passed"],
        failed=failed,
        skipped=named["skipped"],
        details={name: details[name] for name in failed},
        cut_short=cut_short or open_runs > 0,
        passed_at=tuple(times),
    )


def count_events(events: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many tasks ended how, by the events of ansible-runner."""
    words = {"runner_on_ok": "ok", "runner_on_failed": "failed", "runner_on_unreachable": "unreachable", "runner_on_skipped": "skipped"}
    counted: Counter[str] = Counter()
    for event in events:
        kind = words.get(str(event.get("event")))
        if kind:
            counted[kind] += 1
    return {kind: counted[kind] for kind in words.values()}


def reasons(tests: Results, rehearsal: Rehearsal, ended: str, digest: str) -> list[str]:
    """Why it has not passed, in words; empty when it has. ``ended``: how the scenario ended if not well."""
    found = [ended] if ended else []
    found += [f"the test {name} failed: {tests.details.get(name, '')}".rstrip(": ") for name in tests.failed]
    if tests.cut_short:
        found.append("a run of the tests was cut short")
    if not tests.passed:
        found.append("no test was run that passed, and what nobody tested is not verified")
    if rehearsal.digest != digest:
        found.append(f"the back-out was rehearsed with {rehearsal.digest or 'nothing'}, not with {digest}")
    role, no_return = rehearsal.role, rehearsal.no_return
    if not rehearsal.deployed or not (rehearsal.backed_out or no_return):
        what = "backed out" if rehearsal.deployed else "deployed"
        found.append(f"the release was not {what} everywhere in the lab" + (f": {rehearsal.fault}" if rehearsal.fault else ""))
    elif role is not None and (step := missing_step(role.steps, role.forward, role.back, no_return=no_return)):
        found.append(f"{step} of the release's role was not run everywhere in the lab")
    elif not rehearsal.tests:
        found.append(f"nothing was tested after the {'deployment' if no_return else 'back-out'}")
    return found


def predicate(
    tests: Results,
    rehearsal: Rehearsal,
    parity: Parity,
    *,
    ended: str,
    digest: str,
    events: Mapping[str, int],
    hosts: Mapping[str, str],
    scenario: str,
) -> dict[str, Any]:
    """The predicate of an in-toto test result, v0.1, about the package ``digest``, and what Tidegate adds to it under :data:`VERIFICATION`.

    ``hosts``: the lab's hosts, and which live ones they were doubles of; ``scenario``: the sha256 of what was run.
    """
    why = reasons(tests, rehearsal, ended, digest)
    role = rehearsal.role
    return {
        "result": FAILED if why else WARNED if tests.skipped else PASSED,
        "configuration": [{"name": "scenario", "digest": {"sha256": scenario}}],
        "passedTests": list(tests.passed[:_LISTED]),
        "warnedTests": list(tests.skipped[:_LISTED]),
        "failedTests": list(tests.failed[:_LISTED]),
        VERIFICATION: {
            "reasons": why[:_REASONS],
            "rehearsal": {
                "digest": rehearsal.digest,
                "deployed": rehearsal.deployed,
                "backedOut": rehearsal.backed_out,
                "tests": rehearsal.tests,
                "from": list(rehearsal.replaced),
                **({"reverse": "none"} if rehearsal.no_return else {}),
                **({"role": {"forward": [*role.forward], "back": [*role.back]}} if role is not None else {}),
            },
            "parity": parity.to_dict(),
            "events": dict(events),
            "hosts": dict(hosts),
        },
    }
