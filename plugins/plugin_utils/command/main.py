# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``tidegate``: every verb, and what needs no Ansible because it only looks, as one command.

A verb becomes the ansible-playbook that runs its playbook: same variables, same exit status, but for ``audit``, which has more of these.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..actions.verb_options import read_verb
from ..errors import TidegateError
from ..settings import NEXT, configured_homes
from . import ansible_settings, completion, verbs
from .arguments import add_options, long_options, split_rest, typed, variables

_LOOKS = {
    "check": "Says what is wrong with releases, RFCs, a policy and the CMDB, and changes nothing",
    "diff": "Says how two versions of a release in the library differ",
    "history": "Tells what happened to hosts, or under an RFC",
    "hold": "Asks that no further wave of an RFC's deployment begins",
    "status": "Tells where deployments are, and what waits for a person",
}
_UNDONE = frozenset({"backout", "deploy", "stage"})  # verbs at whose end stands how to go on, and how to undo it
_WITH_VERDICT = frozenset({"audit"})  # verbs whose exit status says more than ansible-playbook's
_INIT = "Writes the files of a first release into a directory, and says which commands make it live"
_NARROW = 60  # columns for which the list of verbs is made at least
# Other names for a verb, with what it is then told.
_ALIASES = {"resume": "deploy", "try": "verify"}
_SAID = {
    "resume": "Goes on with a deployment that is held, as deploy does",
    "try": "Tries the release in a directory, which need not be archived, on lab hosts",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 when all that was asked for is so, 1 for an error, 2 for a command that is none."""
    given, rest = split_rest(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(given, rest)
    except TidegateError as error:
        print(f"tidegate: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # of ``tidegate status | head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _run(given: list[str], rest: list[str]) -> int:
    names = verbs.verb_names()
    if not given or given[0] in ("-h", "--help"):
        print(overview(names))
        return 0
    name, own = given[0].replace("-", "_") if given[0][:1] != "-" else given[0], given[1:]
    if name == "--version":
        print(f"tidegate.release {verbs.version()}")
        return 0
    if name == "completion":
        parser = argparse.ArgumentParser("tidegate completion", description="Prints the completion for a shell.")
        parser.add_argument("shell", choices=completion.SHELLS)
        print(completion.script(parser.parse_args(own).shell, {**_options_of_looks(), **verbs.option_names(names, _ALIASES)}))
        return 0
    if name == "init":
        from . import init  # noqa: PLC0415 - nobody else needs what it imports

        return init.init(init.parser(_INIT).parse_args([*own, *(["--", *rest] if rest else [])]))
    if (file := ansible_settings.configuration_file(os.environ, Path.cwd())) is not None:
        os.environ.update({name: value for name, value in configured_homes(file).items() if not os.environ.get(name)})
    if name in _LOOKS:
        from . import look  # noqa: PLC0415 - a verb needs none of what it imports

        add, act = look.LOOKS[name]
        parser = argparse.ArgumentParser(f"tidegate {name}", description=f"{_LOOKS[name]}.", allow_abbrev=False)
        add(parser)
        if rest:
            parser.error("-- is for verbs: what is behind it goes to ansible-playbook")
        return act(parser.parse_args(own))
    if (_ALIASES.get(name, name)) not in names:
        near = verbs.nearest(name, [*names, *_LOOKS, *_ALIASES, "completion", "init"])
        raise TidegateError(f"{name!r:.40} is no verb{f'; did you mean {near}?' if near else ''}; tidegate --help lists them")
    return _play(name, own, rest)


def _play(name: str, own: list[str], rest: list[str]) -> int:
    verb = _ALIASES.get(name, name)
    about = read_verb(verb)
    parser = argparse.ArgumentParser(
        f"tidegate {name}", description=_SAID.get(name, about.description).replace("%", "%%"), allow_abbrev=False
    )
    parser.epilog = (
        "What is behind -- goes to ansible-playbook as it is. Secrets are never arguments: set the variables of the environment."
    )
    add_options(parser, name, about.options)
    add_ansible(parser)
    try:
        asked = parser.parse_args(own)
    except SystemExit as ended:
        if ended.code == 0 or verb not in _WITH_VERDICT:
            raise
        return 1  # argparse's own 2 is a verdict here
    told = variables(asked)
    if name == "try":
        told.setdefault("tidegate_release", ".")
    settings = ansible_settings.missing_settings(os.environ, ansible_settings.configured_options(os.environ, Path.cwd()))
    if verb in _UNDONE:
        settings |= {NEXT: json.dumps(_next(name, verb, told, [*ansible_arguments(asked), *(["--", *rest] if rest else [])]))}
    arguments = [*ansible_arguments(asked), *(["-e", json.dumps(told)] if told else []), *rest]
    return verbs.play_for_verdict(verb, arguments, settings) if verb in _WITH_VERDICT else verbs.play(verb, arguments, settings)


def _next(name: str, verb: str, told: Mapping[str, Any], more: Sequence[str]) -> tuple[str, str]:
    """How to go on with what ``verb``, called by ``name``, is about, and how to undo it."""
    on = "deploy" if verb == "stage" else name
    return tuple(typed(one, told, read_verb(_ALIASES.get(one, one)).options, more) for one in (on, "backout"))  # type: ignore[return-value]


def add_ansible(parser: argparse.ArgumentParser) -> None:
    """The few of ansible-playbook's own options that nearly everybody uses."""
    group = parser.add_argument_group("Ansible")
    group.add_argument("-i", "--inventory", action="append", default=[], help="inventory, such as cmdb.yml; can be given several times")
    group.add_argument("-l", "--limit", help="only these hosts, where the verb can do that")
    group.add_argument("-C", "--check", action="store_true", help="say what would be done, and change nothing")
    group.add_argument("-D", "--diff", action="store_true", help="show what changes in files and records")
    group.add_argument("-e", "--extra-vars", action="append", default=[], help="further variables, as NAME=VALUE, JSON or @FILE")
    group.add_argument("-v", "--verbose", action="count", default=0, help="show what Ansible does; more with each v")


def ansible_arguments(given: argparse.Namespace) -> list[str]:
    """What :func:`add_ansible` parsed, as arguments of ansible-playbook."""
    found = [part for value in given.inventory for part in ("-i", value)]
    found += ["-l", given.limit] if given.limit is not None else []
    found += ["--check"] if given.check else []
    found += ["--diff"] if given.diff else []
    found += [f"-{'v' * given.verbose}"] if given.verbose else []
    return found + [part for value in given.extra_vars for part in ("-e", value)]


def overview(names: Sequence[str]) -> str:
    """What ``tidegate --help`` prints."""
    said = _LOOKS | _SAID | {"completion": "Prints the completion for a shell", "init": _INIT}
    said |= {name: verbs.sentence(name) for name in names}
    width = max(map(len, said))
    columns = max(_NARROW, shutil.get_terminal_size().columns)
    lines = [
        textwrap.fill(
            text.split(". ")[0].rstrip("."), columns - 1, initial_indent=f"  {name:{width}}  ", subsequent_indent=" " * (width + 4)
        )
        for name, text in sorted(said.items())
    ]
    usage = "usage: tidegate VERB [OPTIONS] [-- OPTIONS OF ANSIBLE-PLAYBOOK]"
    begin = "To begin: tidegate init, in an empty directory. It says what comes next."
    return "\n".join([usage, "", begin, "", *lines, "", "tidegate VERB --help lists the options of one."])


def _options_of_looks() -> dict[str, list[str]]:
    from . import init, look  # noqa: PLC0415 - as above

    found = {}
    for name, (add, _act) in look.LOOKS.items():
        parser = argparse.ArgumentParser(add_help=False)
        add(parser)
        found[name] = long_options(parser)
    return found | {"completion": list(completion.SHELLS), "init": long_options(init.parser(_INIT))}


if __name__ == "__main__":
    sys.exit(main())
