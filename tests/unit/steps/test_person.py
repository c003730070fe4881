# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({"awx_user_name": "alice", "tower_user_name": "alice"}, "alice ("),
        ({"tower_user_name": "bob"}, "bob ("),
        ({"awx_user_name": ""}, ""),
        ({"awx_user_name": None}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_the_user_of_a_job_comes_before_the_one_of_the_process(variables: dict[str, Any] | None, first: str) -> None:
    process = this_user()
    assert this_user(variables) == (f"{first}{process})" if first else process)


@pytest.mark.parametrize("name", ["a\nb", 7, ["alice"], "x" * 200, "\ud800"])
def test_what_is_no_name_is_not_written_into_the_history(name: object) -> None:
    with pytest.raises(TidegateError, match="awx_user_name is no name of a user"):
        this_user({"awx_user_name": name})


def test_a_process_whose_number_has_no_name_is_called_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert this_user().startswith(f"uid{os.getuid()}@")
