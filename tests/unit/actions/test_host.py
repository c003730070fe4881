# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible says of a host, or of its settings, repeats none of them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import host as host_action
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host import HostAction
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import OWNER


class Lost(HostAction):
    """A step whose connection breaks, with a message of ssh's that has a setting in it."""

    def __init__(self, **arguments: Any) -> None:
        self._task = cast("Any", SimpleNamespace(check_mode=False, args=arguments))
        self._templar = Templar(DataLoader(), variables={"port": 8080})
        self._connection = MagicMock(transport="local", has_pipelining=False)
        self.journalled = ""

    def visit(self, journal: Any, deployment: Any) -> dict[str, Any]:
        raise AnsibleConnectionFailure("ssh: connect to host vault-7.hidden.example: Connection refused")

    def lost(self, journal: Any, detail: str) -> str:
        self.journalled = detail
        return "lost"


@pytest.fixture(autouse=True)
def journal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Journal", "Holder"):
        monkeypatch.setattr(host_action, name, MagicMock())
    monkeypatch.setattr(host_action.Cmdb, "open", lambda _url: contextlib.nullcontext(MagicMock()))
    monkeypatch.setattr(host_action, "rfc_number", lambda _rfc: "CHG0001")


OPTIONS = {"cmdb": "cmdb.sqlite", "rfc": "CHG0001.yml", "settings": None}


@pytest.mark.parametrize("own", [True, False])
def test_a_lost_connection_s_words_have_no_setting_in_them(own: bool) -> None:
    settings = {"vault": "vault-7.hidden.example"}
    step = Lost() if own else Lost(settings=settings)
    options = OPTIONS if own else {**OPTIONS, "settings": settings}
    with pytest.raises(AnsibleConnectionFailure) as caught:
        step.execute(options, {"inventory_hostname": "web1"} | ({"tidegate_settings": settings} if own else {}))
    for said in (str(caught.value), step.journalled):
        assert "hidden" not in said
        assert "${vault}: Connection refused" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("hidden-1", "tidegate_settings is something else; it has to be a mapping"),
        ([{"token": "hidden-1"}], "tidegate_settings is something else; it has to be a mapping"),
        ("{{ 'hidden-1' }}", "tidegate_settings is something else"),
        ({"token": "hidden-1", "address": "{{ nowhere }}"}, "address of tidegate_settings can't be evaluated: 'nowhere' is undefined"),
        ({"token": {"a": ["{{ 'hidden-1' | to_datetime }}"]}}, "token of tidegate_settings can't be evaluated; "),
        ("{{ {'token': 'hidden-1' | to_datetime} }}", "tidegate_settings can't be evaluated; look"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said_without_their_values(settings: Any, said: str) -> None:
    with pytest.raises(TidegateError) as caught:
        Lost().execute(OPTIONS, {"inventory_hostname": "web1", "tidegate_settings": trusted(settings)})
    assert said in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_settings_are_evaluated_before_they_are_sent() -> None:
    step = Lost()
    with pytest.raises(AnsibleConnectionFailure):
        step.execute(OPTIONS, {"inventory_hostname": "web1", "tidegate_settings": trusted({"url": "http://a:{{ port }}"})})
    assert step.options["settings"] == {"url": "http://a:8080"}


def trusted(value: Any) -> Any:
    """A value as an inventory has it."""
    if isinstance(value, dict):
        return {name: trusted(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [trusted(entry) for entry in value]
    return trust_as_template(value)


def test_packs_lie_in_a_directory_that_says_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_action.C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    step = Lost()
    step.options = {"dsl": "dsl"}
    step.shipment(cast("Any", SimpleNamespace(release="hello")), "sha256:0")
    owner = Holder.parse((tmp_path / OWNER).read_text().splitlines()[0])
    assert owner
    assert not owner.is_dead()
