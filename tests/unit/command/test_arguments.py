# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command takes what the playbooks take, and cuts no text."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.verb_options import read_verbs
from ansible_collections.tidegate.release.plugins.plugin_utils.command.arguments import (
    add_options,
    long_options,
    mapping,
    operand,
    split_rest,
    typed,
    variables,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import flag

VERBS = read_verbs()
ROOT = Path(__file__).parents[3]


def parser_of(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser, verb, VERBS[verb].options)
    return parser


@pytest.mark.parametrize("verb", VERBS)
def test_every_variable_of_a_verb_is_an_option_and_nothing_else_is(verb: str) -> None:
    shown = {name for name, option in VERBS[verb].options.items() if not option.get("no_log") and name != "tidegate_settings"}
    known = set(long_options(parser_of(verb))) - {"--help"}
    assert {flag(name) for name in shown} == {name for name in known if not name.startswith("--no-")}


@pytest.mark.parametrize("verb", VERBS)
def test_help_can_be_shown_of_every_verb(verb: str) -> None:
    assert "tidegate_" not in parser_of(verb).format_help()


def test_no_secret_is_an_argument() -> None:
    assert not [name for verb in VERBS for name in long_options(parser_of(verb)) if "pass" in name]


def test_a_text_is_whole_and_a_number_is_one() -> None:
    given = parser_of("deploy").parse_args(
        ["rfc.yml", "--reason", "a b={{ c }} 'd'", "--patience", "1.5", "--take-over", "--accept", "a", "--accept", "b"]
    )
    assert variables(given) == {
        "tidegate_rfc": "rfc.yml",
        "tidegate_reason": "a b={{ c }} 'd'",
        "tidegate_patience": 1.5,
        "tidegate_take_over": True,
        "tidegate_accept": ["a", "b"],
    }


def test_what_is_not_given_is_left_to_the_environment() -> None:
    assert variables(parser_of("deploy").parse_args([])) == {}
    assert variables(parser_of("deploy").parse_args(["--no-take-over"])) == {"tidegate_take_over": False}


@pytest.mark.parametrize(
    ("verb", "plain"), [("archive", "tidegate_release"), ("adopt", "tidegate_release"), ("verify", "tidegate_rfc"), ("import", None)]
)
def test_the_release_or_the_rfc_needs_no_option(verb: str, plain: str | None) -> None:
    assert operand(verb, VERBS[verb].options) == plain


@pytest.mark.parametrize("text", ["", "[1]", "a=b", "{", "1"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no JSON object"):
        mapping(text)


def test_a_mistyped_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser_of("deploy").parse_args(["--reaso", "x"])
    assert "unrecognized arguments: --reaso" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "own", "rest"), [(["a"], ["a"], []), (["a", "--", "-K", "--"], ["a"], ["-K", "--"]), (["--"], [], [])])
def test_what_is_behind_two_hyphens_is_ansible_s(given: list[str], own: list[str], rest: list[str]) -> None:
    assert split_rest(given) == (own, rest)


def test_what_was_told_is_typed_again_without_what_may_be_a_secret() -> None:
    options: dict[str, dict[str, Any]] = {name: {} for name in ("tidegate_rfc", "tidegate_report", "tidegate_take_over", "tidegate_cmdb")}
    told = {
        "tidegate_rfc": "my rfc.yml",
        "tidegate_take_over": False,
        "tidegate_cmdb": "postgresql://c:hunter2@db/c",
        "tidegate_other": "x",
    }
    more = ["-i", "cmdb.yml", "-e", "pin=hunter2", "-e", "@vault.yml", "--", "--extra-vars=pin=hunter2", "-epin=hunter2", "-e", "p=hunter2"]
    said = typed("deploy", told, options, more)
    assert said == "tidegate deploy 'my rfc.yml' --no-take-over --cmdb … -i cmdb.yml -e … -e @vault.yml -- … … -e …"
    assert "hunter2" not in said


@pytest.mark.parametrize("more", [["--extra-v", "pin=hunter2"], ["--extra=pin=hunter2"], ["-ve", "pin=hunter2"], ["-bevpin=hunter2"]])
def test_extra_variables_are_hidden_however_argparse_takes_them(more: list[str]) -> None:
    assert "hunter2" not in typed("deploy", {}, {}, ["--", *more])
    assert typed("deploy", {}, {}, ["-i", "cmdb.yml", "-v"]) == "tidegate deploy -i cmdb.yml -v"
