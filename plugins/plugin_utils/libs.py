# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Third-party libraries: which ones, since which version, and what to say when one is missing.

Domain modules import a library under ``contextlib.suppress(ImportError)`` so that they can always be
loaded; entry points call :func:`require` first, so that a user reads a sentence instead of a traceback.
"""

from __future__ import annotations

import functools
import sys
from importlib.metadata import PackageNotFoundError, version

from .errors import TidegateError

# distribution name -> oldest major version that the code was written for
MINIMUM = {
    "alembic": 1,
    "ansible-runner": 2,
    "apprise": 2,
    "cryptography": 42,
    "cyclonedx-python-lib": 11,
    "icalendar": 6,
    "jmespath": 1,
    "jsonschema": 4,
    "license-expression": 30,
    "molecule": 25,
    "oras": 0,
    "pyfastcdc": 0,
    "pysnc": 1,
    "pytest-testinfra": 10,
    "recurring-ical-events": 3,
    "redfish": 3,
    "requests": 2,
    "rich": 13,
    "securesystemslib": 1,
    "SQLAlchemy": 2,
    "univers": 32,
}


class MissingLibraryError(TidegateError):
    """A library that this step needs is not installed for the Python that runs Ansible."""


def require(*distributions: str) -> None:
    """Check that each distribution is installed in a usable version.

    Raises :class:`MissingLibraryError` naming all that are not, and the command that helps.
    """
    lacking = [f"{name}>={MINIMUM[name]}" for name in distributions if _major(name) < MINIMUM[name]]
    if lacking:
        raise MissingLibraryError(
            f"{sys.executable} lacks {', '.join(lacking)}; install them into that Python with "
            f"pip install {' '.join(repr(name) for name in lacking)}"
        )


@functools.cache
def _major(name: str) -> int:
    """The major version that is installed, -1 for none. What is installed stays so for the process and those that it forks."""
    try:
        return int(version(name).split(".", 1)[0])
    except (PackageNotFoundError, ValueError):
        return -1
