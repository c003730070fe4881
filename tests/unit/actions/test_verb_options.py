# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verb can be told is read out of the collection as it is installed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.verb_options import read_verbs
from ansible_collections.tidegate.release.plugins.plugin_utils.awx.survey import make_survey
from ansible_collections.tidegate.release.plugins.plugin_utils.awx.wanted import by_credential

ROOT = Path(__file__).parents[3]
VERBS = read_verbs()
_MODULES = {  # by verb, the module that does what it is for
    "approve": "approval",
    "backout": "plan",
    "clear": "clear",
    "deploy": "plan",
    "plan": "plan_info",
    "reconcile": "cmdb_reconcile",
    "stage": "plan",
    "swap": "swap",
    "waive": "waiver",
}


def test_every_playbook_is_a_verb_that_says_what_it_does() -> None:
    assert list(VERBS) == sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
    assert [verb for verb, about in VERBS.items() if not about.description.endswith(".") or "ariable" in about.description] == []


def test_options_are_those_of_roles_and_of_modules_that_a_playbook_calls() -> None:
    assert VERBS["archive"].options["tidegate_examine"]["type"] == "bool"
    assert VERBS["deploy"].options.keys() >= {"tidegate_rfc", "tidegate_mirror", "tidegate_patience", "tidegate_report"}
    assert VERBS["dsl_sync"].options["tidegate_dsl_to"]["required"] is True
    assert VERBS["dsl_sync"].options["tidegate_dsl_to"]["description"].startswith("The other home, like O(tidegate_dsl) a directory")
    assert VERBS["journal_archive"].options["tidegate_key_passphrase"]["no_log"] is True


def test_what_a_playbook_gives_itself_is_no_option() -> None:
    assert "audit_hosts" not in VERBS["audit"].options
    assert not any("hosts" in name for name in VERBS["adopt"].options)


def test_the_sentence_of_where_an_option_comes_from_is_not_shown() -> None:
    said = " ".join(str(one["description"]) for about in VERBS.values() for one in about.options.values())
    assert "Taken from the variable" not in said


@pytest.mark.parametrize("verb", _MODULES)
def test_the_rfc_has_to_be_given_where_a_verb_can_do_nothing_without(verb: str) -> None:
    action = import_module(f"ansible_collections.tidegate.release.plugins.action.{_MODULES[verb]}").ActionModule
    needed = action.homes or action.needed(None, {})
    assert "rfc" in needed
    required = [one["variable"] for one in make_survey(VERBS[verb].options, by_credential()) if one["required"]]
    assert "tidegate_rfc" in required


def test_the_rfc_has_to_be_given_nowhere_else() -> None:
    asked = {verb: make_survey(about.options, by_credential()) for verb, about in VERBS.items()}
    assert {verb for verb, survey in asked.items() for one in survey if one["variable"] == "tidegate_rfc" and one["required"]} == set(
        _MODULES
    )
