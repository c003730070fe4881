# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a worker waits until no other that is redundant with its host is being updated."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..activity import waiting
from ..clock import utc_now
from ..dsl.firmware import Minutes, images_for
from ..dsl.package import load_package_manifest
from ..dsl.repository import Library
from ..rollout.deployments import Deployment, Target
from ..rollout.firmware_journal import FirmwareJournal
from ..rollout.redundancy import Turn, TurnDecision, Visit

_LOOK = 0.5  # seconds between two looks at first
_SLOWEST = 5.0
_SLOWER = 1.1  # by which each look is later than the one before
_RENEWAL = 60.0  # seconds after which the lease is renewed, which is for ten minutes


def await_turn(
    journal: FirmwareJournal,
    deployment: Deployment,
    host: str,
    patience: Callable[[Visit], float],
    interrupted: Callable[[], str],
    *,
    back: bool = False,
) -> tuple[Target | None, Turn]:
    """Take the turn of ``host`` as soon as it has it; the host is ``None`` when somebody has ``interrupted`` the run before.

    ``patience``: for how many seconds another that has the turn is waited for. See :meth:`FirmwareJournal.take_turn`.
    """
    began, renewed, pause, limit = time.monotonic(), time.monotonic(), _LOOK, 0.0
    seen: Visit | None = None
    target, turn = journal.take_turn(deployment.run, host, utc_now(), back=back)
    while target is None and not interrupted():
        if turn.partner is not None and turn.partner != seen:
            began, seen, pause, limit = time.monotonic(), turn.partner, _LOOK, patience(turn.partner)
        with waiting(turn.why):
            time.sleep(pause)
        pause = min(pause * _SLOWER, _SLOWEST)
        if time.monotonic() - renewed >= _RENEWAL:
            renewed = time.monotonic()
            journal.renew(deployment.run, utc_now())
        given_up = time.monotonic() - began >= limit
        turn = journal.look_at_turn(deployment.run, host, utc_now(), back=back)
        if given_up or turn.decision is not TurnDecision.WAIT:
            target, turn = journal.take_turn(deployment.run, host, utc_now(), back=back, given_up=given_up)
    return target, turn


def seconds_of(library: Library, deployment: Deployment, model: str) -> float:
    """How long a deployment may be at a device of a model, by the minutes of its images."""
    images = images_for(model, load_package_manifest(library.repository(deployment.release), deployment.digest).firmware)
    return 60 * sum(minutes.in_all for minutes in [image.minutes for image in images] or [Minutes()])
