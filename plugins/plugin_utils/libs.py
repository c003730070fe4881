# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Third-party libraries: which ones, for what, since which version, and what to say when one is missing.

They are written in ``requirements/``, a file of pip's for each need; nothing else says it again. Domain modules import a library under
``contextlib.suppress(ImportError)`` so that they can always be loaded; entry points call :func:`require` first, so that a user reads a
sentence instead of a traceback.
"""

from __future__ import annotations

import functools
import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .errors import TidegateError

FOLDER = Path(__file__).resolve().parents[2] / "requirements"
_LINE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*>=(?P<least>[0-9.]+)")
_CORE = "ansible-core"  # what runs this, whether or not there is a distribution of it
_STRIPPED = "molecule"  # by ansible-builder, from what collections require
_GUIDE = "docs/execution-environment.md"


class MissingLibraryError(TidegateError):
    """A library that this step needs is not installed for the Python that runs Ansible."""


def require(*needs: str) -> None:
    """Check that the libraries of each need, a file in ``requirements/``, are installed in a usable version.

    Raises :class:`MissingLibraryError` naming all that are not, and the command that helps.
    """
    found = {need: missing for need in dict.fromkeys(needs) if (missing := lacking(need))}
    if not found:
        return
    listed = ", ".join(f"{', '.join(missing)} ({need})" for need, missing in found.items())
    files = " ".join(f"-r {shlex.quote(str(FOLDER / f'{need}.txt'))}" for need in found)
    stripped = any(name.startswith(_STRIPPED) for missing in found.values() for name in missing)
    also = f", and name {_STRIPPED} there, for ansible-builder leaves it out of what collections require" if stripped else ""
    raise MissingLibraryError(
        f"{sys.executable} lacks {listed}; install that with {sys.executable} -m pip install {files}, or run this in an execution "
        f"environment made as {_GUIDE} says{also}"
    )


@functools.cache
def lacking(need: str) -> tuple[str, ...]:
    """What is missing of a need, each as ``name>=version``. What is installed stays so for the process and those that it forks."""
    return tuple(f"{name}>={least}" for name, least in required(need).items() if name != _CORE and _version(name) < _numbers(least))


def required(need: str) -> dict[str, str]:
    """By the name of each distribution that a need takes, its oldest version."""
    lines = (FOLDER / f"{need}.txt").read_text().splitlines()
    return {match["name"]: match["least"] for line in lines if (match := _LINE.match(line))}


def _version(name: str) -> tuple[int, ...]:
    """The version that is installed, nothing for none."""
    try:
        return _numbers(version(name))
    except PackageNotFoundError:
        return ()


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^0-9.]", text)[0]))
