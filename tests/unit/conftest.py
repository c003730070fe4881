# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings

# How fast examples are made says how busy the machine is, and nothing of what is tested.
settings.register_profile("tidegate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tidegate")

DIGEST = "sha256:" + "ab" * 32
RELEASE: dict[str, Any] = {
    "schema": 1,
    "name": "hello",
    "version": "1.0",
    "type": "minor",
    "summary": "Says hello",
    "licence": "MIT",
    "payload": "payload",
    "documentation": ["README.md"],
    "settings": {"address": None, "port": 8080},
    "hooks": {"prepare": {"command": ["bin/prepare"]}, "start": {"command": ["bin/start"], "timeout": 10}},
    "health": [
        {"name": "answers", "http": {"url": "http://${address}:${port}/health"}, "timeout": 20},
        {"name": "port", "tcp": {"host": "${address}", "port": "${port}"}, "timeout": 5},
        {"name": "self", "command": ["bin/check"], "timeout": 5},
    ],
}
RFC: dict[str, Any] = {
    "schema": 1,
    "number": "CHG0030001",
    "type": "normal",
    "state": -2,
    "risk": 3,
    "impact": 3,
    "short_description": "hello 1.0",
    "requested_by": "rita",
    "start_date": "2027-03-01T22:00:00+01:00",
    "end_date": "2027-03-02T02:00:00+01:00",
    "backout_plan": "Back to the release before.",
    "test_plan": "Health checks.",
    "release": {"name": "hello", "version": "1.0", "digest": DIGEST},
    "scope": "[?site=='ams']",
    "approvals": [{"approver": "carl", "role": "change-manager", "state": "approved", "decided_at": "2027-02-26T09:30:00+01:00"}],
}
POLICY: dict[str, Any] = {"schema": 1, "approvals": {"normal": 2}, "rollout": {"canary": "10%", "steps": [50, 100], "budget": {"wave": 1}}}

WriteDocument = Callable[..., Path]


@pytest.fixture(params=[("release", RELEASE), ("rfc", RFC), ("policy", POLICY)], ids=lambda param: str(param[0]))
def valid(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each kind of document with one that is valid."""
    kind, data = request.param
    return kind, copy.deepcopy(data)


@pytest.fixture
def write(tmp_path: Path) -> WriteDocument:
    """Write a valid release, rfc or policy with these keys replaced, or left out where they are ``...``; returns its path."""

    def write_document(kind: str, **changes: Any) -> Path:
        data = {"release": RELEASE, "rfc": RFC, "policy": POLICY}[kind] | changes
        path = tmp_path / f"{kind}.yml"
        plain = json.loads(
            json.dumps({key: value for key, value in data.items() if value is not ...})
        )  # what is there twice is written twice
        path.write_text(yaml.safe_dump(plain, sort_keys=False))
        return path

    return write_document
