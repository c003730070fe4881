# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How ansible-playbook was called: what would leave out a part of a verb, or shorten a text that somebody gives.

ansible-core itself skips in silence what a tag, a task to start at or a limit leaves out, and ends with 0.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError, AnsibleLookupError, ExitCode
from ansible.executor.playbook_executor import PlaybookExecutor
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.parsing.convert_bool import BOOLEANS_FALSE
from ansible.parsing.splitter import parse_kv
from ansible.playbook.play import Play
from ansible.template import is_trusted_as_template
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ..activity import listed
from ..errors import TidegateError, shortened
from ..rollout.data_change import VARIABLE
from ..settings import NEXT, has_login, of_command

if TYPE_CHECKING:
    from types import FrameType

    from ansible.parsing.dataloader import DataLoader

CONTROLLER = "localhost"
SLICE = "tidegate_slice"
_T = TypeVar("_T")

# What people write and what is signed, journalled or shown as theirs.
_TEXTS = ("tidegate_reason", "tidegate_comment", "tidegate_note", "tidegate_functionality", "tidegate_usability")
_OURS = r"(tidegate|verify|lab|audit|report|stock|write_off)_\w+"  # the variables of the verbs, which may follow a text
_UNTAGGED = frozenset({"all", "untagged"})  # what Ansible says of a task without tags
_SECRET = re.compile("pass|secret|token", re.IGNORECASE)
# Extra variables whose values may stand in a log again: paths, names and addresses. Settings, for one, may hold secrets.
_SHOWN = frozenset(
    f"tidegate_{name}"
    for name in ("rfc", "dsl", "cmdb", "policy", "key", "report", "root", "become", "hosts", "mirror", "take_over", "slice", "data")
)
_HIDDEN = "…"
_QUERY = re.compile(r"[?&;#]")  # of an address: what is added to it
_VERB = re.compile(r"tidegate\.release\.\w+|(.*/)?(deploy|stage|backout)\.yml")


def end_run(error: TidegateError) -> NoReturn:
    """End ansible-playbook with the message of ``error`` alone; call it where Ansible evaluates the hosts of a play.

    As an error of Ansible's it would come with the line of our playbook that asked, which is nothing that its user could mend. From
    ``-vvv`` on, and for whoever asks from a task or a template, it does.
    """
    if Display().verbosity >= 3 or _caller(PlaybookExecutor) is None:
        raise AnsibleLookupError(str(error)) from error
    Display().error(str(error) if Display().verbosity else shortened(str(error)), wrap_text=False)
    raise SystemExit(int(ExitCode.GENERIC_ERROR))


def is_listing() -> bool:
    """Whether Ansible was asked to list or check a playbook and not to run it; it evaluates the hosts of a play then, too."""
    return any(context.CLIARGS.get(name) for name in ("syntax", "listhosts", "listtasks", "listtags"))


def is_check() -> bool:
    """Whether this run is in check mode."""
    return bool(context.CLIARGS.get("check"))


def refuse_partial(tagged: bool) -> None:
    """Raise :class:`TidegateError` when an option of this run could leave out a step of what is done as a whole or not at all.

    ``tagged``: a team has given tags of its own to the whole, and so chooses by them whether it is done. Nothing here has tags otherwise,
    and a tag to skip that nothing has, as molecule gives, leaves out nothing.
    """
    tags, skipped = context.CLIARGS.get("tags") or (), context.CLIARGS.get("skip_tags") or ()
    start = context.CLIARGS.get("start_at_task")
    given = {
        f"--tags {','.join(tags)}": (tags and not tagged and _UNTAGGED.isdisjoint(tags), "--tags and ANSIBLE_RUN_TAGS"),
        f"--skip-tags {','.join(skipped)}": (not tagged and not _UNTAGGED.isdisjoint(skipped), "--skip-tags and ANSIBLE_SKIP_TAGS"),
        f"--start-at-task {start!r}": (start, "--start-at-task"),
        "--step": (context.CLIARGS.get("step"), "--step"),
    }
    for option, (partial, without) in given.items():
        if partial:
            raise TidegateError(f"{option} could leave out a part of this, so nothing was done; run it without {without}")


def refuse_kept_files() -> None:
    """Raise :class:`TidegateError` when Ansible would leave modules on the hosts, with the values of their settings in them."""
    constants: Any = C
    if constants.DEFAULT_KEEP_REMOTE_FILES:
        raise TidegateError("ANSIBLE_KEEP_REMOTE_FILES would leave each host's settings there, secrets among them; run it without")


def is_tagged() -> bool:
    """Whether the play whose hosts Ansible evaluates now has tags, as from an ``import_playbook`` with tags."""
    play = _caller(Play)
    return play is not None and bool(play.tags)


def outside_limit(loader: DataLoader, variables: Mapping[str, Any]) -> set[str]:
    """The hosts of the inventory that ``--limit`` leaves out; ``variables`` are those of a play or a task."""
    limit = context.CLIARGS.get("subset")
    if not limit:
        return set()
    inside = {host.name for host in _limited(loader, variables, limit).get_hosts("all")}
    return set(variables.get("groups", {}).get("all", ())) - inside


def refuse_left_out(loader: DataLoader, variables: Mapping[str, Any], hosts: Collection[str], why: str) -> None:
    """Raise :class:`TidegateError` when ``--limit`` leaves out one of the ``hosts`` that a verb is about.

    ``variables`` are those of a play or a task; ``why``: what becomes of all of them, and how else to choose some.
    """
    left = sorted(outside_limit(loader, variables).intersection(hosts))
    if left:
        limit = context.CLIARGS.get("subset")
        raise TidegateError(f"--limit {limit} leaves out {listed(left)}, so nothing was done: {why}; run it without --limit")


def refuse_slice(loader: DataLoader) -> None:
    """Raise :class:`TidegateError` when this run is said to have a slice of the inventory, and is of a verb that has no slices."""
    given = load_extra_vars(loader).get(SLICE)
    if given not in (None, "") and str(given).lower() not in BOOLEANS_FALSE:
        raise TidegateError(
            f"{SLICE} is for deploy, stage and backout, which several controllers do together, and no slices of this would be whole, so "
            "nothing was done; leave it out, and in AWX have no slices of this job template"
        )


def keep_controller(loader: DataLoader, variables: Mapping[str, Any]) -> None:
    """See to it that ``--limit`` does not leave out the controller, where everything is decided.

    A limit that leaves out no host of the inventory, such as ``all``, is lifted: it would leave out an implicit localhost.
    Call it where Ansible evaluates the hosts of a play. Raises :class:`TidegateError` when the limit leaves the controller out.
    """
    limit = context.CLIARGS.get("subset")
    if not limit:
        return
    if not outside_limit(loader, variables) and (inventory := _inventory()):
        inventory.subset(None)
    elif not _limited(loader, variables, limit).get_hosts(CONTROLLER):
        raise TidegateError(
            f"--limit {limit} leaves out {CONTROLLER}, where everything is decided, so nothing would be done; "
            f"leave it away, or add {CONTROLLER} to it"
        )


def refuse_cut_texts(loader: DataLoader) -> None:
    """Raise :class:`TidegateError` when a text among the extra variables is not, to its last sign, what was written.

    In ``-e name=value`` Ansible ends a value at the first space, and keeps the rest in the variable ``_raw_params`` or takes it for other
    variables; it reads backslashes, YAML's commas and comments, and Jinja.
    """
    extra = load_extra_vars(loader)
    given = [str(option) for option in context.CLIARGS.get("extra_vars") or () if option]
    if "_raw_params" in extra:
        cut = next((option for option in given if option[0] not in "@[{" and "_raw_params" in parse_kv(option)), "")
        rest = "" if _SECRET.search(cut) else f" ({extra['_raw_params']})"
        raise TidegateError(f"the extra variables have words that belong to no variable{rest}, so a text was cut short; {_spelling(cut)}")
    for name in (name for name in _TEXTS if name in extra):
        for option in given:
            if option[0] in "[{":
                if name in option and not _is_json(option):
                    raise TidegateError(f"{name} was given in YAML, where a comma or a # ends a text; {_spelling(option)}")
            elif option[0] != "@" and not _is_whole(option, name):
                raise TidegateError(f"{name} was given so that Ansible does not read it as it is written; {_spelling(option)}")
        text = extra[name]
        if isinstance(text, str) and is_trusted_as_template(text) and any(sign in text for sign in ("{{", "{%", "{#")):
            raise TidegateError(f"{name} has {{{{, {{% or {{# in it, which Ansible would evaluate; write what shall stand there itself")


def missing_settings(hosts: int) -> list[str]:
    """What nobody has set and a deployment to so many ``hosts`` would be quicker, or easier to follow, with."""
    config: Any = C.config
    callback, of_callback = config.get_config_value_and_origin("DEFAULT_STDOUT_CALLBACK")
    forks, of_forks = config.get_config_value_and_origin("DEFAULT_FORKS")
    advice = []
    if of_forks == "default" and context.CLIARGS.get("forks") == forks < hosts:
        advice.append(f"forks is {forks}, so no more of the {hosts} hosts change at a time; set it in ansible.cfg, or give --forks 25")
    if of_callback == "default" and callback == "default" and hosts:
        advice.append("with stdout_callback = tidegate.release.progress in ansible.cfg each wave is one line, or a bar on a terminal")
    return advice


def next_commands(undo: bool, statements: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What to type to go on with what this run was about and, with ``undo``, to undo it; secrets among the variables are left out.

    ``statements``: what has to be said of data first, by when that is said.
    """
    playbooks = [str(name) for name in context.CLIARGS.get("args") or ()]
    arguments = [_without_secrets(argument) for argument in sys.argv[1:]]
    name = next((name for name in playbooks if _VERB.fullmatch(name)), "")

    def command(verb: str) -> str:
        return shlex.join(["ansible-playbook", *(verb if verb and argument == name else argument for argument in arguments)])

    forward, back = json.loads(os.environ[NEXT]) if of_command() and os.environ.get(NEXT) else ("", "")
    said = f"-e tidegate_reason={_HIDDEN}"
    if statements:
        return tuple(f"{when}: {forward or command(name)} -e {VARIABLE}={what} {said}" for when, what in statements.items())
    stages = name.rpartition(".")[2] == "stage" or name.endswith("stage.yml")
    lines = [f"To go on:   {forward or command('tidegate.release.deploy' if stages else '')}"]
    return (*lines, f"To undo it: {back or command('tidegate.release.backout')}") if undo and name else tuple(lines)


def _without_secrets(argument: str) -> str:
    """An argument of this run as it may stand in a log: an extra variable that is not known to be harmless is not shown."""
    for option in map(str, context.CLIARGS.get("extra_vars") or ()):
        if option and option[0] != "@" and option in argument and not _is_harmless(option):
            argument = argument.replace(option, _HIDDEN)
    return argument


def _is_harmless(option: str) -> bool:
    try:
        given = json.loads(option) if option[0] == "{" else parse_kv(option)
    except (ValueError, AnsibleError):
        return False
    return isinstance(given, dict) and all(
        name in _SHOWN and isinstance(value, str | bool | int) and not has_login(str(value)) and not _QUERY.search(str(value))
        for name, value in given.items()
    )


def _is_whole(option: str, name: str) -> bool:
    """Whether ``name=value name=value`` gives ``name``, if at all, a value that was written just so, and no words after it."""
    value = parse_kv(option).get(name)
    if value is None:
        return True
    text = re.escape(value)
    return bool(re.search(rf"(^|\s){name}=({text}|'{text}'|\"{text}\")(\s+{_OURS}=.*|\s*)$", option, re.DOTALL))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _spelling(option: str) -> str:
    """How an option of the form ``name=a text`` is to be written."""
    name, _equals, text = option.strip().partition("=")
    if not re.fullmatch(r"\w+", name) or _SECRET.search(option):
        name, text = "tidegate_reason", "all of the text"
    return f"write it like -e {shlex.quote(json.dumps({name: text}, ensure_ascii=False))}"


def _limited(loader: DataLoader, variables: Mapping[str, Any], limit: str) -> InventoryManager:
    inventory = InventoryManager(loader, parse=False)
    for group, hosts in variables.get("groups", {}).items():
        inventory.add_group(group)
        for host in hosts:
            inventory.add_host(host, group=group)
    inventory.subset(limit)
    return inventory


def _inventory() -> InventoryManager | None:
    """The inventory of this run; before its first play no variable leads to it."""
    executor = _caller(PlaybookExecutor)
    inventory = None if executor is None else executor._inventory
    return inventory if isinstance(inventory, InventoryManager) else None


def _caller(kind: type[_T]) -> _T | None:
    """The object of a kind of ansible-core's whose method led here: a lookup is given the variables and nothing else of the run."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, kind):
            return found
        frame = frame.f_back
    return None
