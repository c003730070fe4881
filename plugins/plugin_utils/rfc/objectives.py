# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a change reached what it was for: its objectives are checks, made once the release is live."""

from __future__ import annotations

import tempfile

from ...module_utils.health import CheckError, wait_healthy
from ..activity import note
from .course import Outcome
from .model import Rfc


def check_objectives(rfc: Rfc) -> list[Outcome]:
    """Make each check on this machine, one after the other, within the time limit that it has."""
    environment = {
        "TIDEGATE_RFC": rfc.number,
        "TIDEGATE_RELEASE": rfc.release,
        "TIDEGATE_VERSION": rfc.version,
        "TIDEGATE_DIGEST": rfc.digest,
    }
    outcomes = []
    for check in rfc.objectives:
        note(f"checking the objective {check['name']}")
        # A command has no place of its own to work in: neither the play's directory nor the RFC's is its business.
        with tempfile.TemporaryDirectory() as folder:
            try:
                wait_healthy(check, {}, folder, environment)
                outcomes.append(Outcome(check["name"], True))
            except CheckError as error:
                outcomes.append(Outcome(check["name"], False, str(error)))
    return outcomes
