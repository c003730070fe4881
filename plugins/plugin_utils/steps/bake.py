# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the metrics of a wave until it is known what they come to. What was measured is in the journal, and no process has more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..activity import note, waiting
from ..errors import TidegateError
from ..metrics.answer import MetricAnswer, read_answer
from ..metrics.judge import BakeRecord, Measurement, judge, next_due
from ..metrics.model import Bake, BakeVerdict, Metric, fill_query
from ..metrics.prometheus import PrometheusClient
from ..policy.model import MetricsSource
from ..rollout.bake_journal import BakeJournal, ExitJournal
from ..rollout.deployments import Deployment
from ..rollout.gate import decide
from ..rollout.states import DeploymentState, HostState
from .channels import read_channel
from .gate import OpenWave, look_at_wave
from .wait import RENEWAL, Wait

Ask = Callable[[str], object]
"""What answers a query with a document, or raises :class:`TidegateError`."""
_LOOK = 0.5  # seconds between two looks at whether somebody interrupted the run
_MOST_OTHERS = 500  # hosts that a wave is compared with; more of them say hardly more


def make_asker(source: Callable[[], MetricsSource | None]) -> Ask:
    """What asks the Prometheus of the policy, which is read when it is asked first; its address and token each time, they may change."""

    def ask(query: str) -> object:
        found = source()
        if found is None:
            raise TidegateError("the policy does not say any more where its metrics come from; say it under prometheus")
        where, words = read_channel(found.address)
        if len(words) != 1:
            raise TidegateError(f"{where} has {'no' if not words else 'more than one'} address of a Prometheus")
        token_where, tokens = read_channel(found.token) if found.token else ("", [""])
        if len(tokens) != 1:
            raise TidegateError(f"{token_where} has {'no' if not tokens else 'more than one'} token for Prometheus")
        places = f"{where} or {token_where}" if token_where else where
        return PrometheusClient(words[0], tokens[0], places).query(query)

    return ask


def bake_wave(journal: BakeJournal, deployment: Deployment, ask: Ask, wait: Wait) -> tuple[BakeVerdict | None, OpenWave]:
    """Measure the open wave of a deployment, and return what that came to, with the wave.

    It is ``baking`` when the wait ended before; ``None`` when there is nothing to measure, as for a wave that its gate will not let
    proceed anyway.
    """
    wave = look_at_wave(journal, deployment)
    bake = deployment.rollout.bake_of(wave.number) if wave.number else None
    under_way = deployment.state in (DeploymentState.ACTIVATING, DeploymentState.BAKING)
    if bake is None or wave.number is None or not under_way or decide(replace(wave.inputs, metrics=None)).decision != "proceed":
        return None, wave
    wanted = _wanted(journal, deployment, wave, bake, wait.now())
    record = journal.begin_bake(deployment.run, wave.number, wanted, wanted.begun)
    return _measure(journal, deployment, wave.number, record, ask, wait), wave


def measure_exit(journal: ExitJournal, deployment: Deployment, ask: Ask, wait: Wait) -> BakeVerdict:
    """Measure what the support of a deployment ends with, of all hosts that have the release; ``baking`` when the wait ended before.

    Who is killed meanwhile has measured nothing: it is begun anew.
    """
    bake = deployment.rollout.support_exit
    hosts = tuple(sorted(target.host for target in journal.targets(deployment.id) if target.state is HostState.ACTIVE))
    if bake is None or not hosts:
        return BakeVerdict("good", "there is nothing to be measured")
    record = BakeRecord(bake, wait.now(), hosts, ())
    verdict = _measure(journal, deployment, 0, record, ask, wait)
    if verdict.outcome != "baking":
        journal.end(deployment.run, record, verdict, wait.now())
    return verdict


def baking_result(verdict: BakeVerdict, wave: OpenWave) -> dict[str, Any]:
    """The gate's result when the wait has ended before anything was decided."""
    progress = {"step": "gate", "wave": wave.number, "waves": wave.of, "state": verdict.outcome, "detail": verdict.reason}
    said = {"decision": verdict.outcome, "reason": verdict.reason}
    return {"changed": True, **said, "msg": f"wave {wave.number} of {wave.of}: {verdict.reason}", "progress": {**progress, **said}}


def _wanted(journal: BakeJournal, deployment: Deployment, wave: OpenWave, bake: Bake, now: datetime) -> BakeRecord:
    """The bake of a wave as it would begin now."""
    hosts = tuple(sorted(target.host for target in wave.hosts if target.state is HostState.ACTIVE))
    others: list[str] = []
    if bake.compares:
        spared = journal.spared(deployment.id)
        others = [
            target.host
            for target in journal.targets(deployment.id)
            if target.previous_digest and target.state is HostState.STAGED and target.host not in spared
        ]
        # Not those whose names come first, which may be of one site; the same ones each time.
        others.sort(key=lambda host: hashlib.sha256(f"{deployment.release}\0{host}".encode(errors="replace")).digest())
    return BakeRecord(bake, now, hosts, tuple(sorted(others[:_MOST_OTHERS])))


def _measure(journal: BakeJournal, deployment: Deployment, wave: int, record: BakeRecord, ask: Ask, wait: Wait) -> BakeVerdict:
    began = renewed = measured = wait.monotonic()
    verdict, asked = judge(record, wait.now()), False
    metric, at = next_due(record)
    while True:
        now = wait.now()
        if verdict.outcome == "baking" and now >= record.until > datetime.fromisoformat(verdict.at):
            verdict = judge(record, now)  # which looks at all that was measured, so only when it can have become another
        # The second is for a clock that was set back meanwhile.
        due = at <= now or wait.monotonic() - measured >= max(metric.every, metric.delay)
        impatient = wait.patience is not None and wait.monotonic() - began >= wait.patience
        # Who has no patience at all, and comes again and again, gets to the end too.
        if verdict.outcome != "baking" or wait.interrupted() or (impatient and (asked or not due)):
            return verdict
        note(f"wave {wave} {verdict.reason}" if wave else f"support {verdict.reason}")
        if due:
            measurement = _measured(deployment, metric, record, ask, now)
            record, asked = record.with_one(measurement), True
            metric, at = next_due(record)
            verdict = judge(record, wait.now())
            journal.measured(deployment.run, wave, measurement, verdict.reason, wait.now())
            renewed = measured = wait.monotonic()
            continue
        if wait.monotonic() - renewed >= RENEWAL:
            journal.renew(deployment.run, wait.now())
            renewed = wait.monotonic()
        wait.sleep(min(_LOOK, max(0.0, (at - now).total_seconds())))


def _measured(deployment: Deployment, metric: Metric, record: BakeRecord, ask: Ask, now: datetime) -> Measurement:
    """Measure one metric. Whatever happens to that is what was measured."""
    others = record.others if metric.compare else ()
    measured = (*record.hosts, *others)

    def answer(query: str) -> MetricAnswer:
        try:
            with waiting("Prometheus"):
                document = ask(fill_query(query, deployment.release, deployment.version, measured))
        except TidegateError as error:
            return MetricAnswer(error=str(error).partition("\n")[0])
        return read_answer(document, record.hosts if metric.of == "hosts" else (), others, metric.label)

    total = metric.compare.total if metric.compare else ""
    return Measurement(metric.name, now, answer(metric.query), answer(total) if total else None)
