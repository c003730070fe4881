# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host may be given a package: by what people signed, looked at once in a run.

Light to import, since each fork that stages a host loads this module.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from ..clearance.policy import load_policy
from ..dsl.descriptors import canonical
from ..dsl.repository import open_library
from ..errors import TidegateError
from ..evidence.package import PackageName, judge_package
from ..files import locked, write_atomically
from ..policy.load import DEFAULT


def distrust(dsl: str | None, policy_path: str | None, release: PackageName, now: datetime, kept: Path | None = None) -> str:
    """Why the package must not be used now, in a sentence; empty when it may be. What can't be read is distrusted.

    ``kept``: where the run keeps what it has fetched from the library.
    """
    try:
        policy = load_policy(policy_path)
        if "package" not in policy.trust:
            return ""
        if dsl is None:
            return "the policy asks for signatures, but no DSL is given; set tidegate_dsl or the environment variable TIDEGATE_DSL"
        return judge_package(open_library(dsl).at_one_moment(kept).repository(release.name), policy, release, now).distrust
    except TidegateError as error:
        return f"whether {release.name} {release.version} is trusted could not be found out: {error}"


def distrust_once(folder: Path, dsl: str, policy_path: str | None, release: PackageName, now: datetime, kept: Path | None = None) -> str:
    """Like :func:`distrust`, but looked at once for all who ask with the same ``folder``, as long as the policy is the same file.

    ``folder`` has to be private to a run: what is in it is believed.
    """
    try:
        policy = hashlib.sha256(Path(policy_path or DEFAULT).read_bytes()).hexdigest()
        asked = canonical([policy, dsl, release.name, release.version, release.digest])
        path = folder / f"{hashlib.sha256(asked).hexdigest()}.trust"
        if not path.exists():
            folder.mkdir(exist_ok=True)
            with locked(path.with_suffix(".lock")):
                if not path.exists():
                    write_atomically(path, distrust(dsl, policy_path, release, now, kept).encode(errors="replace"))
        return path.read_text(encoding="utf-8")
    except OSError as error:
        return f"whether {release.name} {release.version} is trusted could not be found out: {error.strerror}: {error.filename}"
