# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who says something that nobody can look up: a person whom the policy names, by a signature; or whoever runs this, where it names none."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import TidegateError
from ..evidence.envelope import sign
from ..evidence.statement import DATA, Statement
from ..evidence.trust import signer_name
from ..policy.model import Policy
from ..rollout.data_change import DataStatement
from ..rollout.deployments import Deployment
from ..rollout.holder import user_name

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

_JOB_USERS = ("awx_user_name", "tower_user_name")  # variables that AWX and Tower give each job
_LONGEST_USER = 150


def this_user(variables: Mapping[str, Any] | None = None) -> str:
    """Who runs this, as the history names people without a key.

    Where the ``variables`` of AWX or Tower name a user it is that one, and in brackets whom the process belongs to, which is all that this
    machine can vouch for.

    Raises :class:`TidegateError` when such a name can't be one.
    """
    process = f"{user_name()}@{socket.gethostname()}"
    for name in _JOB_USERS:
        said = (variables or {}).get(name)
        if said in (None, ""):
            continue
        if not isinstance(said, str) or len(said) > _LONGEST_USER or not said.isprintable():
            raise TidegateError(f"{name} is no name of a user; leave it to AWX to set it")
        return f"{said!s} ({process})"
    return process


def responsible_person(policy: Policy, signer: Signer | None, now: datetime, what: str) -> str:
    """Who takes the responsibility for ``what``, as in ``web1 is written off``.

    Raises :class:`TidegateError` unless somebody signs it whom the policy names, when it names people.
    """
    if policy.people and signer is None:
        raise TidegateError(f"the policy names people, so {what} with a signature; give the key of one of them")
    return signer_name(policy, signer, now) if signer is not None and policy.people else this_user()


def signed_about_host(host: str, kind: str, said: Mapping[str, Any], signer: Signer | None, now: datetime) -> dict[str, str]:
    """The signed statement of type ``kind``, which the history keeps; nothing without a key.

    A host has no bytes: the digest of its subject is that of its name.
    """
    if signer is None:
        return {}
    digest = f"sha256:{hashlib.sha256(host.encode()).hexdigest()}"
    return {"envelope": sign(Statement(host, digest, kind, {"host": host, **said}), signer, now).decode()}


def vouched_data(said: DataStatement, deployment: Deployment, policy: Policy, signer: Signer | None, now: datetime) -> DataStatement:
    """What is said of the data of ``deployment``, with who says it and, with a key, the signed statement of that, which the journal keeps.

    Raises :class:`TidegateError` as :func:`responsible_person` does.
    """
    person = responsible_person(policy, signer, now, f"that the data of {deployment.label} are {said.what.replace('_', ' ')} is said")
    about = {
        "deployment": deployment.label,
        "release": {"name": deployment.release, "version": deployment.version, "digest": deployment.digest},
        "said": said.what,
        "attempt": said.attempt,
        "reason": said.reason,
    }
    return replace(said, by=person, signed=signed_about_host(deployment.rollout.data_host, DATA, about, signer, now))
