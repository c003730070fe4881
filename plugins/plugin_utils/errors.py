# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception family of the collection.

The domain raises these; only a plugin's entry point turns them into a failed task.
Every message is a sentence for a person: what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LINES = 3  # that an error has for whoever does not ask for more


def shortened(text: str) -> str:
    """``text`` with three lines at most; the last one says how many more there are."""
    lines = text.splitlines()
    return text if len(lines) <= _LINES else "\n".join((*lines[: _LINES - 1], f"and {len(lines) - _LINES + 1} more faults, which -v lists"))


class TidegateError(Exception):
    """Something a user can be told in one sentence."""


@dataclass(frozen=True)
class Problem:
    """One fault of a document: ``where`` is ``file:line``, ``remedy`` says what to do."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"


class DocumentError(TidegateError):
    """A release.yml, rfc.yml or policy.yml that can't be used; carries every problem found, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class FindingsError(TidegateError):
    """A refusal for what was found: a sentence, a line for each finding below it, and all that there is to say of them for ``-v``."""

    def __init__(self, sentence: str, lines: Sequence[str], complete: Sequence[str]) -> None:
        self.complete = "\n".join((sentence, *complete))
        super().__init__("\n".join((sentence, *lines)))


class IntegrityError(TidegateError):
    """Bytes that are not what their digest says, or a payload that must not be archived."""


class NotFoundError(TidegateError):
    """A release, CI or deployment that isn't there."""


class ConflictError(TidegateError):
    """Somebody else holds it, or it is already something else: locks, moved tags, lost compare-and-set."""


class LostConnectionError(TidegateError):
    """The database went away in a transaction that may write: ``may_be_written`` unless it is certain that nothing was; ``said`` is what
    the driver says of it."""

    def __init__(self, sentence: str, said: str, *, may_be_written: bool) -> None:
        self.said, self.may_be_written = said, may_be_written
        super().__init__(sentence)


class StateError(TidegateError):
    """A transition that the state machine does not allow."""
