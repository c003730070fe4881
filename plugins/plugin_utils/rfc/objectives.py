# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a change reached what it was for: its objectives are checks, made once the release is live."""

from __future__ import annotations

import tempfile

from ...module_utils.health import CheckError, wait_healthy
from ...module_utils.redaction import Redactor
from ...module_utils.supervision import Precautions
from ..activity import note
from .course import Outcome
from .model import Rfc


def evaluate_objectives(rfc: Rfc, redactor: Redactor) -> list[Outcome]:
    """Make each check on this machine, one after the other, within the time limit that it has; what ``redactor`` knows is in no outcome.

    Whether the commands among them may be run at all is the caller's to find out. They get nothing of this process's environment.
    """
    about = {
        "TIDEGATE_RFC": rfc.number,
        "TIDEGATE_RELEASE": rfc.release,
        "TIDEGATE_VERSION": rfc.version,
        "TIDEGATE_DIGEST": rfc.digest,
    }
    precautions = Precautions(redactor, clean=True)
    outcomes = []
    for check in rfc.objectives:
        note(f"checking the objective {check['name']}")
        # A command has no place of its own to work in: neither the play's directory nor the RFC's is its business.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                about_release = {"release": rfc.release, "version": rfc.version, "digest": rfc.digest}
                wait_healthy(check, about_release, folder, {**about, "HOME": folder, "TMPDIR": folder}, precautions=precautions)
                outcomes.append(Outcome(check["name"], True))
            except CheckError as error:
                outcomes.append(Outcome(check["name"], False, str(error)))
    return outcomes
