# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook opine, as a tester uses it: what they sign decides whether a release is cleared."""

from __future__ import annotations

import yaml
from office import Office


def test_a_release_that_users_do_not_like_is_not_cleared(office: Office) -> None:
    path = office.path / "policy.yml"
    policy = yaml.safe_load(path.read_text()) | {
        "opinions": {"service-owner": {"quorum": 1, "minimum": 3}},
        "waivers": {"opinions": {"role": "change-manager"}},
        "approvals": {"normal": 0},
    }
    path.write_text(yaml.safe_dump(policy))

    def opine(score: int, *options: str, name: str = "dora", **variables: object) -> str:
        about = {"tidegate_name": "hello", "tidegate_version": "1.0", "tidegate_key": office.path / f"{name}.pem"}
        return office.play("tidegate.release.opine", *options, **about, tidegate_score=score, **variables)

    assert "0 of 1 opinions by the service-owner" in office.play("tidegate.release.clear")
    assert opine(4, name="carl").startswith("2 ")
    assert "changed=1" in opine(4, "--check")
    assert "dora gives hello 1.0 1 of 5 as service-owner, and it must not go live" in opine(1, tidegate_blocking=True)
    assert "blocked by dora (service-owner)" in office.play("tidegate.release.clear")
    said = opine(4, tidegate_functionality="'All that we need.'")
    assert "dora gives hello 1.0 4 of 5 as service-owner" in said
    assert "changed=1" in said
    assert "changed=0" in opine(4, tidegate_functionality="'All that we need.'")
    cleared = office.play("tidegate.release.clear", "-v")
    assert "1 of 1 opinions by the service-owner (dora), 4.00 on average" in cleared
    assert cleared.startswith("0 ")
