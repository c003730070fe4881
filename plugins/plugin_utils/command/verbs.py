# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs of the command: which there are, what one takes, and its run."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ..actions import verdict
from ..actions.verb_options import read_verb
from ..report.audited import EXIT_STATUS, Severity
from ..settings import ONLY_WORDS
from .arguments import add_options, long_options

_COLLECTION = Path(__file__).parents[3]
_PLAYBOOKS = _COLLECTION / "playbooks"
_FAILED = 2  # ansible-playbook's, for any failed task
_NO_VERDICT = 1  # how the command ends when a run came to none
_ONLY_LISTS = frozenset({"--list-hosts", "--list-tags", "--list-tasks", "--syntax-check"})  # options with which nothing is run
_PASSED_ON = (signal.SIGHUP, signal.SIGTERM)  # what is sent to the command alone; a terminal sends SIGINT to both


def verb_names() -> list[str]:
    """Every verb, which is a playbook of the collection, in order."""
    return sorted(path.stem for path in _PLAYBOOKS.glob("*.yml"))


def sentence(verb: str) -> str:
    """What a verb does, as the head of its playbook says."""
    with (_PLAYBOOKS / f"{verb}.yml").open(encoding="utf-8") as file:
        comment = " ".join(line.removeprefix("#").strip() for line in file if line.startswith("#"))
    return comment.split(". ", maxsplit=1)[0].split(" Variable", maxsplit=1)[0].rstrip(".")


def play(verb: str, arguments: Sequence[str], settings: Mapping[str, str]) -> NoReturn:
    """Become the ansible-playbook that runs a verb's playbook, with ``settings`` in its environment.

    What is sent to the command is sent to that, and its exit status is the command's.
    """
    sys.stdout.flush()
    command, environment = _command(verb, arguments), {**os.environ, **settings, ONLY_WORDS: "true"}
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is wanted


def play_for_verdict(verb: str, arguments: Sequence[str], settings: Mapping[str, str]) -> int:
    """Run a verb's playbook like :func:`play`, and return the exit status that belongs to its verdict.

    A run that came to none returns ansible-playbook's own exit status, but 1 in place of the 2 that is a verdict here, and of the 0 that
    nobody has looked for.
    """
    sys.stdout.flush()
    with tempfile.NamedTemporaryFile(prefix="tidegate-", encoding="utf-8", mode="r") as file:
        more = {ONLY_WORDS: "true", verdict.VARIABLE: file.name}
        with _passing_on() as running, subprocess.Popen(_command(verb, arguments), env={**os.environ, **settings, **more}) as process:
            running(process)
            status = process.wait()
        said = file.read().strip()
    return exit_status(status, said, lists=not _ONLY_LISTS.isdisjoint(arguments))


@contextlib.contextmanager
def _passing_on() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Pass what is sent to the command on to a run, which is named to what this yields; the command itself lives until that has ended."""
    sent: list[int] = []
    runs: list[subprocess.Popen[bytes]] = []

    def send(number: int, _frame: object) -> None:
        sent.append(number)
        for run in runs:
            run.send_signal(number)

    def running(run: subprocess.Popen[bytes]) -> None:
        runs.append(run)
        for number in sent:
            run.send_signal(number)

    before = {number: signal.signal(number, send) for number in _PASSED_ON}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)  # the run has heard that itself, and ends in order
    try:
        yield running
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(status: int, word: str, *, lists: bool = False) -> int:
    """How the command ends after an ansible-playbook that ended with ``status``, negative for a signal; ``word``: its verdict, if any;
    ``lists``: it was only to say what it would run."""
    if status < 0:
        return 128 - status
    if word not in {str(one) for one in Severity}:
        return _NO_VERDICT if status == _FAILED or (status == 0 and not lists) else status
    given = EXIT_STATUS[Severity(word)]
    return (given or _NO_VERDICT) if status == _FAILED else given or status


def _command(verb: str, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "ansible", "playbook", f"tidegate.release.{verb}", *arguments]


def version() -> str:
    """The version of the collection that this file is of: Galaxy writes a manifest, pip leaves ``galaxy.yml``."""
    manifest, galaxy = _COLLECTION / "MANIFEST.json", _COLLECTION / "galaxy.yml"
    if manifest.is_file():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
    return next(line.split()[1] for line in galaxy.read_text(encoding="utf-8").splitlines() if line.startswith("version:"))


def nearest(name: str, known: Iterable[str]) -> str:
    """The name among ``known`` that was probably meant, empty when there is none."""
    return next(iter(difflib.get_close_matches(name, list(known), 1)), "")


def option_names(verbs: Iterable[str], aliases: Mapping[str, str]) -> dict[str, list[str]]:
    """By verb, and by other names of it, all its options."""
    found = {}
    for verb in verbs:
        parser = argparse.ArgumentParser(add_help=False)
        add_options(parser, verb, read_verb(verb).options)
        found[verb] = long_options(parser)
    return found | {name: found[verb] for name, verb in aliases.items()}
