# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's manifest, an RFC and a policy that are valid, to be written with what a test changes in them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Rfc

EXAMPLES = Path(__file__).parents[2] / "examples"
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
_LOADED = Rfc(
    number="CHG0001",
    type="normal",
    state=-2,
    risk=3,
    impact=3,
    short_description="hello 1.0",
    requested_by="rita",
    start_date=datetime(2027, 3, 1, 22, tzinfo=UTC),
    end_date=datetime(2027, 3, 2, 2, tzinfo=UTC),
    backout_plan="Back to the release before.",
    test_plan="Health checks.",
    release="hello",
    version="1.0",
    digest="sha256:" + "a" * 64,
    scope="[*]",
    approvals=(),
    fingerprint="f" * 64,
)
# Every rule that can make a policy stricter, each by itself.
STRICT: dict[str, dict[str, Any]] = {
    "audit": {"audit": {"copies": ["/opt"]}},
    "approvals": {"approvals": {"standard": {"signer": 1}}},
    "separate": {"separate": ["requester", "builder", "approver"]},
    "documentation": {"documentation": {"minor": ["nothing*"]}},
    "people": {"people": {"rita": {"roles": ["signer"]}}},
    "trust": {"trust": {kind: {"role": "signer"} for kind in ("package", "scan", "sbom", "licence", "test-result")}},
    "verification": {"trust": {"test-result": {"role": "signer"}}, "verification": {"parity": 90, "rehearsal": True}},
    "opinions": {"opinions": {"signer": {"quorum": 1, "minimum": 4}}},
    "versions": {"versions": {"minor": 9}},
    "responsibilities": {"responsibilities": {"deploy": {"responsible": ["signer"], "accountable": "signer"}}},
    "rules": {"rules": [{"when": {}, "trust": {"package": {"role": "signer", "threshold": 2}}, "documentation": ["nothing*"]}]},
    "controls": {"controls": [{"name": "never", "that": "false", "reason": "It never is."}]},
    "calendars": {"calendars": {"windows": ["/nowhere/*.ics"]}},
    "communication": {"communication": {"required": True}},
    "emergency": {"emergency": {"review": 1}},
    "objectives": {"objectives": {"commands": False}},
    "host_classes": {"host_classes": ["server"]},
    "identity": {"identity": {"policy": "https://team.example/policy.yml", "verifier": "https://team.example/changes"}},
    "no_return": {"no_return": {"signer": 1}},
    "journal": {"journal": {"days": 1000}},
    "spares": {"spares": {"cover": "largest_wave", "near": {"ams": ["ams-1"]}, "level_days": 7}},
    "waivers": {"waivers": {}},
    "prometheus": {"prometheus": {"address": {"environment": "PROMETHEUS_URL"}, "token": {"file": "/nowhere/token"}}},
    "rollout": {
        "rollout": {
            "budget": {"wave": 0, "total": 0},
            "support": {"hours": 24, "late_days": 0},
            "bake": {"minutes": 1, "metrics": [{"name": "errors", "query": "up", "bad": "> 0"}]},
            "canary_bake": {"minutes": 1, "metrics": [{"name": "errors", "query": "up", "compare": {"kind": "values"}}]},
        },
        "prometheus": {"address": {"environment": "PROMETHEUS_URL"}},
    },
}


def manifest(**changes: Any) -> dict[str, Any]:
    """The manifest of a release with these keys replaced, or left out where they are ``...``."""
    return _changed(RELEASE, changes)


def simple_manifest(**changes: Any) -> dict[str, Any]:
    """The least that a manifest has to say, and a check that passes on every host; ``changes`` as for :func:`manifest`."""
    check = {"name": "is there", "command": ["true"], "timeout": 5}
    return manifest(**{"licence": ..., "settings": ..., "hooks": ..., "health": [check], **changes})


def rfc(**changes: Any) -> dict[str, Any]:
    """An approved RFC; ``changes`` as for :func:`manifest`."""
    return _changed(RFC, changes)


def open_rfc(number: str, version: str, digest: str, now: datetime | None = None, **changes: Any) -> dict[str, Any]:
    """An RFC for a version of hello on all servers, approved just now, whose window has been open for five minutes and is for an hour."""
    now = now or datetime.now(UTC).replace(microsecond=0)
    approval = {"approver": "carl", "role": "change-manager", "state": "approved", "decided_at": now.isoformat()}
    return rfc(
        **{
            "number": number,
            "short_description": f"hello {version}",
            "start_date": (now - timedelta(minutes=5)).isoformat(),
            "end_date": (now + timedelta(hours=1)).isoformat(),
            "release": {"name": "hello", "version": version, "digest": digest},
            "scope": "[?class=='server']",
            "approvals": [approval],
            **changes,
        }
    )


def example_rfc(digest: str, **changes: Any) -> dict[str, Any]:
    """The commented RFC of the examples for this digest of hello 1.0, approved just now, in the middle of a window of two hours."""
    document = dict(yaml.safe_load((EXAMPLES / "rfc.yml").read_text()))
    now = datetime.now(UTC).replace(microsecond=0)
    document["release"]["digest"] = digest
    document["start_date"], document["end_date"] = ((now + timedelta(hours=hours)).isoformat() for hours in (-1, 1))
    document["approvals"][0]["decided_at"] = now.isoformat()
    return document | changes


def loaded_rfc(**changes: Any) -> Rfc:
    """An RFC without approvals as it is once it was loaded; ``changes`` are fields of it."""
    return replace(_LOADED, **changes)


def policy_of(**rules: Any) -> dict[str, Any]:
    """A policy of these rules and no other."""
    return {"schema": 1, **rules}


def example_policy(**changes: Any) -> dict[str, Any]:
    """A policy of some rules; ``changes`` as for :func:`manifest`."""
    return _changed(POLICY, changes)


def write_document(path: Path, document: Any) -> Path:
    """Write a document as YAML; returns where."""
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy in which nothing is shared, so that what stands in it twice is written twice."""
    return dict(json.loads(json.dumps({key: value for key, value in (document | changes).items() if value is not ...})))
