# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples are what the documentation says they are."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import load_manifest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.load import DEFAULT
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_of_a_policy_says_all_that_the_shipped_policy_says() -> None:
    assert load_policy(EXAMPLES / "policy.yml") == load_policy()
    assert yaml.safe_load((EXAMPLES / "policy.yml").read_text()) == yaml.safe_load(DEFAULT.read_text())


def test_the_example_of_an_rfc_is_for_the_example_of_a_release() -> None:
    rfc, release = load_rfc(EXAMPLES / "rfc.yml"), load_manifest(EXAMPLES / "hello" / "release.yml")
    assert (rfc.release, rfc.version) == (release.name, release.version)


def test_the_example_of_a_release_can_be_archived() -> None:
    entries = {entry.path: entry for entry in read_release(EXAMPLES / "hello").entries}
    assert {"bin/serve", "bin/start", "bin/stop"} <= entries.keys()
