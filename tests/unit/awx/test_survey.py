# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options become questions of AWX's survey, each of a type that AWX has."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.awx.survey import make_survey


def option(kind: str, description: str = "What it is.", **more: Any) -> dict[str, Any]:
    return {"type": kind, "description": description, **more}


def question(option: dict[str, Any], variable: str = "tidegate_thing") -> dict[str, Any]:
    (made,) = make_survey({variable: option}, ())
    return made


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (option("str"), {"type": "text", "min": 0, "max": 1024}),
        (option("path"), {"type": "text", "min": 0, "max": 1024}),
        (option("int"), {"type": "integer"}),
        (option("float", default=0.5), {"type": "float", "default": 0.5}),
        (option("int", default=0), {"type": "integer", "default": 0}),
        # AWX's page for editing breaks on choices without a default; an empty one is none of them, so it is no answer.
        (option("bool"), {"type": "multiplechoice", "choices": ["true", "false"], "default": ""}),
        (option("list", elements="str", choices=["a", "b"]), {"type": "multiselect", "choices": ["a", "b"], "default": ""}),
        (option("bool", default=False), {"type": "multiplechoice", "choices": ["true", "false"], "default": "false"}),
        (option("str", choices=["a", "b"], default="b"), {"type": "multiplechoice", "choices": ["a", "b"], "default": "b"}),
        (
            option("list", elements="str", choices=["a", "b"], default=["a", "b"]),
            {"type": "multiselect", "choices": ["a", "b"], "default": "a\nb"},
        ),
        (option("list", elements="str", default=["a", "b"]), {"type": "text", "min": 0, "max": 1024, "default": "a,b"}),
        (option("str", no_log=True), {"type": "password", "min": 0, "max": 1024}),
        (option("str", default=""), {"type": "text", "min": 0, "max": 1024}),  # an empty default would be an answer
    ],
)
def test_a_question_has_the_type_that_awx_has_for_it(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    made = question(asked)
    about = {"question_name", "question_description", "required", "variable"}
    assert {name: value for name, value in made.items() if name not in about} == expected
    assert (made["question_name"], made["required"], made["variable"]) == ("Thing", False, "tidegate_thing")


def test_a_list_says_how_several_are_written() -> None:
    assert (
        question(option("list", elements="str"))["question_description"] == "What it is. Several have commas between them, and no spaces."
    )


@pytest.mark.parametrize(
    ("variable", "name"),
    [("tidegate_rfc", "RFC"), ("tidegate_dsl_to", "DSL to"), ("tidegate_rfcs", "RFCs"), ("verify_hosts", "Verify hosts")],
)
def test_a_question_is_called_after_its_variable(variable: str, name: str) -> None:
    assert question(option("str"), variable)["question_name"] == name


def test_a_question_says_what_the_option_says_in_plain_words() -> None:
    said = "A file, or V(oci://host(x)) with O(tidegate_key). Defaults to the environment variable E(TIDEGATE_X). Has to be given."
    made = question(option("str", said))
    assert made["question_description"] == "A file, or oci://host(x) with tidegate_key."
    assert made["required"] is True


def test_what_has_to_be_answered_comes_first_and_the_rest_keeps_its_order() -> None:
    options = {"tidegate_c": option("str"), "tidegate_a": option("str"), "tidegate_b": option("str", required=True)}
    assert [one["variable"] for one in make_survey(options, ())] == ["tidegate_b", "tidegate_c", "tidegate_a"]


def test_neither_what_a_credential_gives_nor_a_mapping_is_asked_for() -> None:
    options = {
        "tidegate_dsl": option("str"),
        "tidegate_settings": option("dict"),
        "lab_hosts": option("list", elements="dict"),
        "tidegate_note": option("str"),
    }
    assert [one["variable"] for one in make_survey(options, {"tidegate_dsl"})] == ["tidegate_note"]


@pytest.mark.parametrize("other", ["tidegate_name", "tidegate_release"])
def test_an_rfc_has_to_be_named_unless_a_release_can_be(other: str) -> None:
    assert question(option("path"), "tidegate_rfc")["required"] is True
    both = make_survey({"tidegate_rfc": option("path"), other: option("str")}, ())
    assert [one["required"] for one in both] == [False, False]
