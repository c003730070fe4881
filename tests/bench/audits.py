# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit of all hosts, on which nothing has changed, against the plainest thing that asks each of them something."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peers
from deployments import small_release
from hosts import Field, close_field
from measure import Costs, Finding

FEW = "20 hosts"
PING = "an Ansible module that does nothing"
GROWTH = "cpu_of_a_host_against_that_of_20"
ANSWER = "bytes_of_an_answer"
_FEW = 20


def audit_fleet(field: Field) -> Finding:
    """An audit of hosts with a release, whose packages, units, cron files and listeners are on record, and of 20 such hosts beside it."""
    costs = Costs(field.meters)
    with _few() as few:
        _prepare(few)
        of_few = Costs(few.meters)
        of_few.take(FEW, lambda: few.run("tidegate.release.audit", {}))
        costs.update(of_few)
    _prepare(field)
    costs.take("ours", lambda: field.run("tidegate.release.audit", {}))
    costs.take(PING, lambda: peers.play(field, {"ansible.builtin.ping": {}}))
    each, each_of_few = costs["ours"].cpu_seconds / field.count, costs[FEW].cpu_seconds / _FEW
    details = {
        "cpu_seconds_of_a_host": round(each, 3),
        "cpu_seconds_of_a_host_of_20": round(each_of_few, 3),
        GROWTH: round(each / each_of_few, 3),
        ANSWER: _answer(field),
    }
    print("".join(f"    {name}: {value}\n" for name, value in details.items()), end="", flush=True)
    return costs.finding(PING, **details)


@contextmanager
def _few() -> Iterator[Field]:
    """A field of 20 hosts beside the one that there is."""
    path = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    path.chmod(0o755)
    field = Field(path, _FEW, network="127.0.3")
    try:
        field.up()
        yield field
    finally:
        close_field(field)


def _prepare(field: Field) -> None:
    """A release on each host, and on record what else is there."""
    field.fresh()
    field.run("tidegate.release.deploy", {"tidegate_rfc": small_release(field, "1", field.count)})
    field.run("tidegate.release.audit", {"audit_baseline": True, "tidegate_reason": "as it was made"})


def _answer(field: Field) -> int:
    """How many bytes a host's answer is, as an audit asks for it."""
    recorded = dict(field.rows("select s.name, s.sha256 from host_set s join ci on ci.id = s.ci_id where ci.name = 'web1'"))
    asked = {"running": True, "copies": ["/opt", "/srv"], "sets": recorded}
    command = ["ansible", "web1", "-i", str(field.path / "cmdb.yml"), "-b", "-o", "-m", "tidegate.release.release_facts"]
    return len(field.execute([*command, "-a", json.dumps(asked)]).stdout.encode())
