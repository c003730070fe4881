# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host sent is scanned, what the scanner found is named, and whatever was not scanned is not called clean."""

from __future__ import annotations

import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.malware import Scan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import audit_scan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit import compare_beside


def packed(content: bytes) -> str:
    return b64encode(zlib.compress(content)).decode()


def scanned(monkeypatch: pytest.MonkeyPatch, answer: Any, outcome: str = "clean") -> dict[str, Any]:
    def scan(folder: Path, _database: str | None) -> Scan:
        found = tuple((path.name, "Test.Sig") for path in sorted(folder.iterdir()) if path.read_bytes() == b"evil")
        return Scan("infected", "1 infected", found=found) if found else Scan(outcome, "ClamAV has no signatures")  # type: ignore[arg-type]

    monkeypatch.setattr(audit_scan, "scan", scan)
    return audit_scan.scan_suspects(answer, "own")


def named(said: dict[str, Any]) -> list[tuple[str, str]]:
    found = compare_beside({"web1": {"releases": [], "scan": said}, "web2": {"releases": []}}, {"web1": [], "web2": []}, {})
    assert all(one["host"] == "web1" and one["remedy"] for one in found)
    return [(one["kind"], one["detail"]) for one in found]


GOOD, EVIL = ({"release": "hello", "path": path, "data": packed(data)} for path, data in (("../a", b"good"), ("b\x1b", b"evil")))


def test_what_the_scanner_finds_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(scanned(monkeypatch, {"files": [GOOD, EVIL], "left": []})) == [("infected", "b? in the home of hello is Test.Sig")]
    assert named(scanned(monkeypatch, {"files": [GOOD], "left": []})) == []
    assert named(scanned(monkeypatch, {"files": [], "left": []}, "inconclusive")) == [], "without a file there is nothing to scan"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"files": [GOOD], "left": []}, "ClamAV has no signatures"),
        ({"files": [GOOD], "left": ["big"]}, "1 file too large, too many or unreadable, such as big, were left out"),
        (None, "its answer is none"),
        ({"files": [7], "left": []}, "can't be read"),
        ({"files": [{**GOOD, "data": "!"}], "left": []}, "can't be read"),
        ({"files": [{**GOOD, "data": b64encode(b"x").decode()}], "left": []}, "can't be read"),
    ],
)
def test_what_was_not_scanned_is_not_clean(monkeypatch: pytest.MonkeyPatch, answer: Any, said: str) -> None:
    ((kind, detail),) = named(scanned(monkeypatch, answer, "inconclusive"))
    assert kind == "unreadable"
    assert said in detail


def test_what_does_not_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_scan, "_LARGEST", 10)
    assert "too large" in scanned(monkeypatch, {"files": [{**GOOD, "data": packed(bytes(1000))}], "left": []})["problem"]


@pytest.mark.parametrize(
    "odd", [7, [], {}, {"infected": 7, "problem": ""}, {"infected": [7], "problem": ""}, {"infected": [], "problem": 7}]
)
def test_a_scan_of_another_form_is_none(odd: Any) -> None:
    assert named(odd) == [("unreadable", "nobody knows whether files that nobody released are clean: its answer is none")]
