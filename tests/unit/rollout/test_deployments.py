# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a host that is back: why it went back is no news, what it said on the way is."""

from __future__ import annotations

from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import as_remark, remark_in
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState


def test_why_a_host_went_back_waits_for_nobody_and_what_it_said_on_the_way_does() -> None:
    assert remark_in(HostState.BACKED_OUT, "health check 'answers' failed") == ""
    assert remark_in(HostState.BACKED_OUT, as_remark("1.0 had to be ended")) == "1.0 had to be ended"
    assert remark_in(HostState.ACTIVE, "1.0 still served") == "1.0 still served"
    assert remark_in(HostState.FAILED, as_remark("why")) == ""
    assert as_remark("") == ""
