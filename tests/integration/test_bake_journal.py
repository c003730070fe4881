# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A wave bakes: what is measured is in the journal, whoever goes on with it, and its gate can be judged again by that alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, StateError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.judge import Measurement
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.model import Bake, BakeVerdict
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.communication import Channel
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import MetricsSource
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import render_deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import rollout_from_dict, rollout_to_dict
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.history import gates_again
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.bake import make_asker
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import WaveStart
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.conclude import conclude
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import decide_wave_gate
from baked import BAKE, COMPARING, ERRORS, GONE, HOLDER, HOSTS, NOW, Baked, answered
from schemas import assert_schema

BAD = answered(**dict.fromkeys(HOSTS, 7))


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        yield opened


class Unread:
    """A change that nobody has to read: the wave is the last one, or what follows is none of these tests' business."""

    def read(self) -> Any:
        raise TidegateError("it is away")

    def record(self, *_arguments: Any) -> None:
        pass


def gate(baked: Baked, verdict: BakeVerdict | None, interrupted: str = "") -> dict[str, Any]:
    """Decide the gate of the open wave."""
    change: Any = Unread()
    return decide_wave_gate(
        baked.journal, baked.deployment.run, change, lambda *_: WaveStart(""), lambda *_: [], baked.now, interrupted, metrics=verdict
    )


def events(baked: Baked) -> list[str]:
    with baked.cmdb.read() as connection:
        return list(connection.scalars(sa.select(schema().journal.c.event).order_by(schema().journal.c.seq)))


def explained(baked: Baked) -> list[dict[str, Any]]:
    with baked.cmdb.read() as connection:
        return gates_again(connection, "CHG0001", archived=True)


def resume(baked: Baked) -> None:
    """Another process goes on with the deployment, and its hosts are looked at again."""
    baked.journal.take_over(baked.deployment.id, replace(HOLDER, pid=4712), baked.now, ordered=True)
    baked.activate("web1")


def test_a_wave_is_measured_to_its_end_and_is_good(cmdb: Cmdb) -> None:
    baked = Baked(cmdb, waves=(("web1", "web2"),))
    verdict = baked.measure()
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == ("good", "errors good 3 of 3")
    assert [(at - NOW).total_seconds() for at, _query in baked.asked] == [0, 60, 120]
    assert baked.asked[0][1] == 'rate(errors{instance=~"(?:web1|web2)(?::[0-9]+)?"}[1m])'
    assert baked.deployment.state is DeploymentState.BAKING
    decided = gate(baked, verdict)
    assert (decided["decision"], decided["reason"]) == ("proceed", "2 of 2 hosts in wave 1 of 1 active; errors good 3 of 3")
    assert baked.deployment.state is DeploymentState.COMPLETED
    assert [event for event in events(baked) if event in ("bake", "measured", "decided")] == ["bake", *["measured"] * 3, "decided"]


@pytest.mark.parametrize("on_failure", ["back_out", "hold"])
def test_what_is_bad_is_what_the_policy_says_of_failures(cmdb: Cmdb, on_failure: Any) -> None:
    baked = Baked(cmdb, answers=[BAD], rollout=Rollout(bake=BAKE, stable=0, on_failure=on_failure))
    verdict = baked.measure()
    assert verdict is not None
    assert (verdict.outcome, len(baked.asked)) == ("bad", 1)
    assert gate(baked, verdict)["decision"] == on_failure
    assert baked.deployment.reason == "errors is bad: 7 on web1, not < 1; 1 host in wave 1 of 3 active"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (answered(), "errors is inconclusive: no value of 1 of 1 hosts (web1)"),
        (answered(web1="NaN"), "errors is inconclusive: no value of 1 of 1 hosts (web1 is 'NaN')"),
        (GONE, "errors can't be measured: Prometheus can't be reached; 5 times in a row"),
    ],
)
def test_what_is_not_known_holds_and_the_next_deploy_begins_to_measure_anew(cmdb: Cmdb, answer: Any, why: str) -> None:
    baked = Baked(cmdb, answers=[answer])
    assert gate(baked, baked.measure())["decision"] == "hold"
    assert baked.deployment.state is DeploymentState.HELD
    assert why in baked.deployment.reason
    baked.answers = [answered(web1=0)]
    resume(baked)
    verdict = baked.measure()
    assert verdict is not None
    assert verdict.reason == "errors good 3 of 3"
    assert events(baked).count("bake") == 2
    assert [one["same"] for one in explained(baked)] == [True]


def test_whose_patience_is_over_leaves_it_baking_and_the_next_run_goes_on_where_it_was(cmdb: Cmdb) -> None:
    baked = Baked(cmdb)
    verdict = baked.measure(patience=70)
    assert verdict is not None
    said = "baking until 2026-03-01T12:02:00+00:00: errors good 2 of 3"
    assert (verdict.outcome, verdict.reason) == ("baking", said)
    change: Any = Unread()
    ended = conclude(baked.journal, baked.deployment.run, change, "completed", lambda *_: [], lambda *_: [], baked.now)
    assert ended["failed"]
    assert (ended["state"], ended["msg"]) == (
        "baking",
        f"CHG0001: hello 2.0 is {said}. Run deploy again to go on, or backout to undo it.",
    )
    baked.slept += 3600
    resume(baked)
    verdict = baked.measure()
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == ("good", "errors good 3 of 3")
    assert (len(baked.asked), events(baked).count("bake")) == (3, 1)


def test_who_has_no_patience_and_comes_again_and_again_gets_to_the_end(cmdb: Cmdb) -> None:
    baked = Baked(cmdb)
    for number in (1, 2):
        assert baked.measure(patience=0) is not None
        assert baked.measure(patience=0) is not None
        assert baked.deployment.reason == f"baking until 2026-03-01T12:02:00+00:00: errors good {number} of 3"
        baked.slept += 60
        resume(baked)
    verdict = baked.measure(patience=0)
    assert (verdict and verdict.reason, len(baked.asked)) == ("errors good 3 of 3", 3)


def test_what_was_good_long_ago_lets_nothing_proceed_now(cmdb: Cmdb) -> None:
    baked = Baked(cmdb)
    verdict = baked.measure()
    assert gate(baked, verdict, "somebody interrupted it")["decision"] == "hold"
    resume(baked)
    assert baked.measure() is not None
    assert (len(baked.asked), events(baked).count("bake")) == (3, 1)  # a little later it counts
    gate(baked, verdict, "somebody interrupted it")
    baked.slept += 3 * 86400
    resume(baked)
    assert baked.measure() is not None
    assert (len(baked.asked), events(baked).count("bake")) == (6, 2)


def test_of_a_deployment_that_is_held_nothing_is_measured(cmdb: Cmdb) -> None:
    baked = Baked(cmdb)
    baked.journal.hold(baked.deployment.run, "because", baked.now)
    assert (baked.measure(), baked.asked) == (None, [])
    assert gate(baked, None)["reason"] == "CHG0001#1 is held and has no open wave"


def test_a_bake_of_other_hosts_is_another_one(cmdb: Cmdb) -> None:
    budget = Rollout(bake=BAKE, stable=0, wave_budget=Share(1), total_budget=Share(1))
    baked = Baked(cmdb, waves=(("web1", "web2"), ("web3",)), rollout=budget)
    baked.measure(patience=70)
    baked.journal.take_over(baked.deployment.id, replace(HOLDER, pid=4712), baked.now, ordered=True)
    baked.activate("web1")
    baked.activate("web2", state=HostState.FAILED)
    verdict = baked.measure()
    assert verdict is not None
    assert (verdict.outcome, len(baked.asked)) == ("good", 2 + 3)
    assert '"(?:web1)(?::' in baked.asked[-1][1]
    assert events(baked).count("bake") == 2


def test_a_measurement_counts_by_the_journal_and_not_by_the_process(cmdb: Cmdb) -> None:
    baked = Baked(cmdb)
    baked.answers = [answered(web1=0), answered(web1=0), KeyboardInterrupt()]  # as a process that is killed
    with pytest.raises(KeyboardInterrupt):
        baked.measure()
    baked.answers = [answered(web1=0)]
    resume(baked)
    verdict = baked.measure()
    assert verdict is not None
    assert verdict.reason == "errors good 3 of 3"
    assert events(baked).count("measured") == 3


def test_one_whose_deployment_was_taken_over_measures_no_more(cmdb: Cmdb) -> None:
    baked = Baked(cmdb)
    before = baked.deployment
    baked.measure(interrupted=lambda: "stopped")
    resume(baked)
    measurement = Measurement.from_dict(NOW, {"metric": "errors", "values": {}, "unclear": "", "error": ""})
    with pytest.raises(ConflictError, match="another controller has taken"):
        baked.journal.measured(before.run, 1, measurement, "", NOW)
    with pytest.raises(StateError, match="does not bake, so what was measured counts for nothing"):
        baked.journal.measured(baked.deployment.run, 1, measurement, "", NOW)


def test_a_report_says_until_when_a_wave_bakes_and_then_what_its_gate_went_by(cmdb: Cmdb) -> None:
    baked = Baked(cmdb, answers=[BAD])
    verdict = baked.measure(interrupted=lambda: "stopped")
    report = build_report(cmdb, baked.now)
    assert_schema("report", report.overview)
    page = report.deployments[f"deployments/{baked.deployment.id}"]
    assert_schema("report_deployment", page)
    assert (page["state"], page["reason"]) == ("baking", "baking until 2026-03-01T12:02:00+00:00: errors good 0 of 3")
    assert page["reason"] in render_deployment(page)
    verdict = baked.measure()
    gate(baked, verdict)
    page = build_report(cmdb, baked.now).deployments[f"deployments/{baked.deployment.id}"]
    assert page["waves"][0]["reason"] == "errors is bad: 7 on web1, not < 1; 1 host in wave 1 of 3 active"


def test_the_lease_is_kept_while_it_bakes(cmdb: Cmdb) -> None:
    slow = Bake(120, (replace(ERRORS, every=3600),))
    baked = Baked(cmdb, bake=slow)
    asked, table = [], schema().deployment
    before = baked.ask

    def ask(query: str) -> object:
        with cmdb.read() as connection:
            asked.append(connection.scalar(sa.select(table.c.lease_until)) - baked.now)
        return before(query)

    baked.ask = ask  # type: ignore[method-assign]
    baked.measure()
    assert len(asked) == 3
    assert min(asked) > timedelta(minutes=8)


def test_an_interrupted_bake_holds_and_goes_on(cmdb: Cmdb) -> None:
    baked = Baked(cmdb)
    verdict = baked.measure(interrupted=lambda: "interrupted by SIGINT (ann@here)" if len(baked.asked) == 2 else "")
    decided = gate(baked, verdict, "interrupted by SIGINT (ann@here)")
    assert decided["decision"] == "hold"
    assert decided["reason"].startswith("interrupted by SIGINT (ann@here); baking until 2026-03-01T12:02:00+00:00: errors good 2 of 3;")
    resume(baked)
    verdict = baked.measure()
    assert verdict is not None
    assert (verdict.outcome, len(baked.asked)) == ("good", 3)
    assert [one["same"] for one in explained(baked)] == [True]


def test_a_clock_that_is_set_back_is_not_waited_for(cmdb: Cmdb) -> None:
    baked = Baked(cmdb)
    baked.answers = [answered(web1=0), answered(web1=0), GONE]

    def ask(query: str, before: Any = baked.ask) -> object:
        baked.asked_at = baked.slept  # type: ignore[attr-defined]
        return before(query)

    baked.ask = ask  # type: ignore[method-assign]
    real = type(baked).now
    try:
        type(baked).now = property(lambda self: real.fget(self) - timedelta(hours=1 if self.slept > 30 else 0))  # type: ignore[assignment,misc]
        baked.measure(patience=100)
    finally:
        type(baked).now = real  # type: ignore[method-assign]
    assert len(baked.asked) == 2


def test_a_wave_that_will_not_proceed_anyway_is_not_measured_and_one_that_was_not_holds(cmdb: Cmdb) -> None:
    baked = Baked(cmdb, waves=(("web1",), ("web2", "web3")))
    baked.activate("web1", state=HostState.FAILED)  # when it is looked at again
    assert baked.measure() is None
    assert baked.asked == []
    assert gate(baked, None)["decision"] == "back_out"


def test_a_gate_that_skips_the_metrics_of_the_policy_holds(cmdb: Cmdb) -> None:
    baked = Baked(cmdb, waves=(("web1",),))
    decided = gate(baked, None)
    assert (decided["decision"], decided["reason"].partition(";")[0]) == ("hold", "the policy asks for metrics, and none were measured")


@pytest.mark.parametrize(
    ("canary", "value", "outcome", "reason"),
    [
        (2, 1.2, "good", "latency is not worse than with the release before (p "),
        (
            2,
            9,
            "bad",
            "latency is worse than with the release before: 9 where the others have 1.2 (p 0.028, P(X > Y) 1.00; 2 against 7 hosts)",
        ),
        (
            1,
            9,
            "inconclusive",
            "latency can't be compared: 1 against 8 hosts can't give p below 0.05 whatever is measured; 2 of them could",
        ),
        (9, 9, "inconclusive", "latency can't be compared: no other host of the plan has the release before"),
    ],
)
def test_the_canary_is_compared_with_those_that_still_have_the_release_before(
    cmdb: Cmdb, canary: int, value: float, outcome: str, reason: str
) -> None:
    waves = tuple(wave for wave in (tuple(HOSTS[:canary]), tuple(HOSTS[canary:])) if wave)
    baked = Baked(cmdb, waves=waves, rollout=Rollout(canary_bake=COMPARING, stable=0))
    baked.answers = [answered(**{host: value if host in waves[0] else 1 + place % 4 / 10 for place, host in enumerate(HOSTS)})]
    verdict = baked.measure()
    assert verdict is not None
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict.reason
    if outcome == "inconclusive":
        assert baked.asked == []  # nobody has to wait for that


def test_old_rollouts_and_new_ones_are_read(cmdb: Cmdb) -> None:
    whole = Rollout(bake=BAKE, canary_bake=COMPARING)
    assert rollout_from_dict(rollout_to_dict(whole)) == whole
    before = {key: value for key, value in rollout_to_dict(Rollout()).items() if key not in ("bake", "canary_bake")}
    assert rollout_from_dict(before) == Rollout()


def test_every_gate_is_explained_by_the_journal_alone(cmdb: Cmdb) -> None:
    baked = Baked(cmdb, waves=(("web1",), ("web2",)), answers=[answered(**dict.fromkeys(HOSTS, 0))])
    gate(baked, baked.measure())
    found = explained(baked)
    assert [(one["wave"], one["decision"], one["same"]) for one in found] == [(1, "hold", True)]
    assert found[0]["reason"].startswith("it could not be found out whether the RFC still allows the next wave")
    table = schema().journal
    with cmdb.read() as connection:
        data = connection.scalar(sa.select(table.c.data).where(table.c.event == "decided"))
    assert data["inputs"]["metrics"]["outcome"] == "good"


def test_addresses_and_tokens_are_where_the_policy_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, token = Channel("PROMETHEUS_URL"), Channel(file=str(tmp_path / "token"))
    ask = make_asker(lambda: MetricsSource(address, token))
    with pytest.raises(TidegateError, match="the environment variable PROMETHEUS_URL has no address"):
        ask("up")
    monkeypatch.setenv("PROMETHEUS_URL", "https://one.example https://two.example")
    with pytest.raises(TidegateError, match="has more than one address"):
        ask("up")
    monkeypatch.setenv("PROMETHEUS_URL", "http://prometheus.example")
    with pytest.raises(TidegateError, match=r"the file .*token can't be read"):
        ask("up")
    (tmp_path / "token").write_text("# who we are\nsecret-token\n")
    with pytest.raises(TidegateError, match="credentials are not sent without TLS"):
        ask("up")
    with pytest.raises(TidegateError, match="does not say any more where its metrics come from"):
        make_asker(lambda: None)("up")
