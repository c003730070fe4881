# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a release: release.yml."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...module_utils.endpoint import OWN, PLACEHOLDER
from ..documents import Document, check_endpoint, check_placeholders, load_document
from ..versions import DEB, PEP440, RPM, UnorderedError, check_range, fits
from .firmware import KIND as FIRMWARE
from .firmware import FirmwareImage
from .firmware import contradictions as image_contradictions
from .hardware import KIND as HARDWARE
from .hardware import PartChange
from .hardware import contradictions as part_contradictions
from .licence_expression import normalise
from .system_packages import SystemPackages

PAYLOAD_TITLE = "payload.tar"
INDEX_TITLE = "files.json"
ROLE_TITLE = "ansible.tar"
ROLE_INDEX_TITLE = "ansible.json"
"""What the parts of a package are called that are no file of the release's directory."""

STEPS = ("migrate", "drain", "activate", "check", "restore", "reverse")
"""The steps that a role may bring, in the order in which they run: ``migrate`` once before the first wave, ``reverse`` once after the last
host is back, the others in each wave."""

_OWN_OF_HOOKS = (*OWN, "previous", "next")
_HOOK_TIMEOUT = 60  # seconds, unless the manifest says
_ROLE_TIMEOUT = 1800
# What a release without a payload has no use for.
_OF_THE_TREE = ("health", "hooks", "logs", "packages", "portable_names", "stable", "user")
# What releases of firmware and of hardware have no use for, of which nothing runs on a host.
_OF_SOFTWARE = ("ansible", "effect", "health", "hooks", "logs", "packages", "portable_names", "reads", "settings", "user", "verification")
OUTSIDE = "outside"
"""What the manifest of software says of its ``effect`` when that is not the tree."""


@dataclass(frozen=True)
class OwnAnsible:
    """The role that a release brings, and how it runs.

    ``role``: its directory beside release.yml. ``steps``: which of :data:`STEPS` it has, in that order. ``back_out``: ``previous`` for
    the activate of the package before, or ``own`` for tasks/back_out.yml of this role. ``timeout``: seconds, for each step and wave.
    ``collections``: ``name``, and ``version`` as a range where it matters, of those that the controller has to have. ``migrate_on``: on
    which CI of the plan ``migrate`` and ``reverse`` run, as JMESPath; empty without them. ``no_return``: nothing undoes ``migrate``.
    """

    role: str
    steps: tuple[str, ...]
    back_out: str = "previous"
    timeout: float = _ROLE_TIMEOUT
    gather_facts: bool = True
    collections: tuple[Mapping[str, str], ...] = ()
    migrate_on: str = ""
    no_return: bool = False

    @property
    def name(self) -> str:
        """What the role is called."""
        return self.role.rpartition("/")[2]

    def to_config(self) -> dict[str, Any]:
        """All of it in the shape of the schema."""
        return {
            "role": self.role,
            "steps": list(self.steps),
            "back_out": self.back_out,
            "on_first": "back_out",
            "timeout": self.timeout,
            "gather_facts": self.gather_facts,
            "collections": [dict(collection) for collection in self.collections],
            "atomic": False,
            **({"migrate_on": self.migrate_on} if self.migrate_on else {}),
            **({"reverse": "none"} if self.no_return else {}),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> OwnAnsible:
        """Read it from the shape of the schema."""
        return cls(
            role=data["role"],
            steps=tuple(step for step in STEPS if step in data["steps"]),
            back_out=data.get("back_out", "previous"),
            timeout=data.get("timeout", _ROLE_TIMEOUT),
            gather_facts=data.get("gather_facts", True),
            collections=tuple(dict(collection) for collection in sorted(data.get("collections", ()), key=lambda one: one["name"])),
            migrate_on=data.get("migrate_on", ""),
            no_return="reverse" in data,
        )


def missing_collections(own: OwnAnsible, find_version: Callable[[str], str | None]) -> list[str]:
    """What of the collections that a role needs is not there, a sentence for each; ``find_version`` says which version of one is."""
    missing = []
    for collection in own.collections:
        name, versions = collection["name"], collection.get("version", "")
        found = find_version(name)
        try:
            why = "is not installed" if found is None else "" if fits(found, versions, PEP440) else f"is installed as {found}"
        except UnorderedError as error:
            why = f"can't be compared: {error}"
        if why:
            wanted = f"{name} {versions}".strip()
            missing.append(f"the role {own.name} needs the collection {wanted}, which {why}; install it where this runs")
    return missing


@dataclass(frozen=True)
class Manifest:
    """A release as its team describes it.

    ``hooks`` (``prepare``, ``stop``, ``remove``, ``start``, ``read``) and ``health`` have the shape of the schema with defaults filled in.
    ``settings`` are defaults; ``None`` means that each host has to give a value. ``stable``: for how many seconds it has to stay healthy,
    ``None`` when the policy is to say. ``logs``: paths, and units of systemd in the shape of the schema. ``user``: as whom hooks and
    commands of checks run, ``None`` for root. ``scenario`` is the directory with the files of its own scenario, which are among the
    documentation. ``portable_names``: the payload's names suit file systems that fold case or are those of other systems.
    ``licensed_product``: the product of which each CI needs a seat. ``requires`` and ``conflicts`` have the shape of the schema with the
    schemes of versions filled in. ``payload`` is ``None`` for a release that is its ``ansible`` alone; it has an empty tree.
    ``packages``: those of the operating system that the payload has. ``firmware``: the images that the payload is, of a release of
    firmware, which has neither hooks nor health; what the devices say of themselves is looked at instead. ``hardware``: the parts that a
    release of hardware exchanges, which has no payload either. ``reads``: of a release whose effect is outside
    the tree, what its hook ``read`` has to say when it is there; ``None`` for any other.
    """

    name: str
    version: str
    type: str
    summary: str
    payload: str | None
    documentation: tuple[str, ...]
    licence: str | None = None
    licensed_product: str | None = None
    requires: tuple[Mapping[str, Any], ...] = ()
    conflicts: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, str | int | None] = field(default_factory=dict)
    hooks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    health: tuple[Mapping[str, Any], ...] = ()
    stable: float | None = None
    logs: tuple[str | Mapping[str, str], ...] = ()
    user: str | None = None
    scenario: str | None = None
    portable_names: bool = False
    ansible: OwnAnsible | None = None
    packages: SystemPackages | None = None
    firmware: tuple[FirmwareImage, ...] = ()
    hardware: tuple[PartChange, ...] = ()
    reads: str | None = None

    @property
    def has_tree(self) -> bool:
        """Whether it is a tree on each host, and so can be looked at there."""
        return self.payload is not None and not self.firmware

    @property
    def no_return(self) -> bool:
        """Whether it migrates data, and nothing brings them back."""
        return self.ansible is not None and self.ansible.no_return

    def to_config(self) -> dict[str, Any]:
        """The manifest normalised, as a package's config has it: the same release gives the same bytes."""
        config: dict[str, Any] = {
            "schema": 1,
            "name": self.name,
            "version": self.version,
            "type": self.type,
            "summary": self.summary,
            "documentation": sorted(self.documentation),
            "settings": dict(self.settings),
            "hooks": {name: dict(hook) for name, hook in self.hooks.items()},
        }
        if self.payload is not None:
            config["payload"] = self.payload
        if self.has_tree:
            config["health"] = [dict(check) for check in self.health]
        if self.ansible is not None:
            config["ansible"] = self.ansible.to_config()
        if self.packages is not None:
            config["packages"] = self.packages.to_config()
        if self.firmware:
            config["kind"] = FIRMWARE
            config["firmware"] = [image.to_config() for image in self.firmware]
        if self.hardware:
            config["kind"] = HARDWARE
            config["hardware"] = [part.to_config() for part in self.hardware]
        if self.reads is not None:
            config |= {"effect": OUTSIDE, "reads": self.reads}
        if self.portable_names:
            config["portable_names"] = True
        if self.logs:
            config["logs"] = [log if isinstance(log, str) else dict(log) for log in self.logs]
        if self.scenario is not None:
            config["verification"] = {"scenario": self.scenario}
        plain = {key: getattr(self, key) for key in ("stable", "user", "licence", "licensed_product")}
        config |= {key: value for key, value in plain.items() if value is not None}
        for name, conditions in (("requires", self.requires), ("conflicts", self.conflicts)):
            if conditions:
                config[name] = [dict(condition) for condition in conditions]
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Manifest:
        """Read what :meth:`to_config` made; KeyError, TypeError or ValueError when it has another shape. :meth:`check` looks closer."""
        return cls(
            **{key: config[key] for key in ("name", "version", "type", "summary")},
            payload=config["payload"] if "payload" in config or not {"ansible", "hardware"} & config.keys() else None,
            documentation=tuple(sorted(config["documentation"])),
            licence=config.get("licence"),
            licensed_product=config.get("licensed_product"),
            requires=tuple(dict(condition) for condition in config.get("requires", ())),
            conflicts=tuple(dict(condition) for condition in config.get("conflicts", ())),
            settings=dict(config["settings"]),
            hooks={name: dict(hook) for name, hook in dict(config["hooks"]).items()},
            health=tuple(dict(check) for check in (config["health"] if "payload" in config and "firmware" not in config else ())),
            stable=config.get("stable"),
            logs=tuple(config.get("logs", ())),
            user=config.get("user"),
            scenario=config["verification"]["scenario"] if "verification" in config else None,
            portable_names=config.get("portable_names", False),
            ansible=OwnAnsible.of(config["ansible"]) if "ansible" in config else None,
            packages=SystemPackages.of(config["packages"]) if "packages" in config else None,
            firmware=tuple(FirmwareImage.of(image) for image in config.get("firmware", ())),
            hardware=tuple(PartChange.of(part) for part in config.get("hardware", ())),
            reads=_reads(config),
        )

    def check(self) -> None:
        """Raise :class:`DocumentError` unless this could have been written as a release.yml: a package may come from anywhere."""
        document = Document(f"{self.name}:{self.version}", self.to_config())
        document.check("release")
        _check_placeholders(document)
        _check_conditions(document)
        _check_titles(document)
        _check_ansible(document)
        _check_kind(document)
        _check_effect(document)
        document.finish()


def load_manifest(path: str | Path) -> Manifest:
    """Load a release.yml; raises :class:`DocumentError` with every problem."""
    document = load_document(path, "release")
    _check_placeholders(document)
    _check_conditions(document)
    _check_titles(document)
    _check_ansible(document)
    _check_kind(document)
    _check_effect(document)
    packages = document.data.get("packages")
    if isinstance(packages, dict) and packages.get("format") == RPM:
        if packages.get("hold") is not False:
            document.problem(("packages",), "rpm holds no packages", "say hold: false, and exclude them from upgrades on the hosts")
        if packages.get("config", "keep") != "keep":
            document.problem(("packages", "config"), "of packages of rpm each says that itself", "leave it out")
    if isinstance(packages, dict) and "contents" in packages:
        document.problem(("packages", "contents"), "packages.contents is found out when the release is archived", "leave it out")
    if document.is_good(("licence",)) and normalise(document.data["licence"]) is None:
        remedy = "write one such as MIT OR Apache-2.0, or LicenseRef-<name> for one of your own"
        document.problem(("licence",), f"licence is {document.data['licence']!a}, which is no SPDX expression", remedy)
    document.finish()
    data = document.data
    return Manifest(
        name=data["name"],
        version=data["version"],
        type=data["type"],
        summary=data["summary"],
        payload=data.get("payload"),
        documentation=tuple(data["documentation"]),
        licence=data.get("licence"),
        licensed_product=data.get("licensed_product"),
        requires=tuple(_with_scheme(condition) for condition in data.get("requires", ())),
        conflicts=tuple(_with_scheme(condition) for condition in data.get("conflicts", ())),
        settings=data.get("settings", {}),
        hooks={name: {"timeout": _HOOK_TIMEOUT, **hook} for name, hook in data.get("hooks", {}).items()},
        health=tuple(_with_defaults(check) for check in data.get("health", ())),
        stable=data.get("stable"),
        logs=tuple(data.get("logs", ())),
        user=data.get("user"),
        scenario=data.get("verification", {}).get("scenario"),
        portable_names=data.get("portable_names", False),
        ansible=OwnAnsible.of(data["ansible"]) if "ansible" in data else None,
        packages=SystemPackages.of(data["packages"]) if "packages" in data else None,
        firmware=tuple(FirmwareImage.of(image) for image in data.get("firmware", ())),
        hardware=tuple(PartChange.of(part) for part in data.get("hardware", ())),
        reads=_reads(data),
    )


def _with_defaults(check: Mapping[str, Any]) -> dict[str, Any]:
    return {**check, "http": {"status": 200, **check["http"]}} if "http" in check else dict(check)


def _with_scheme(condition: Mapping[str, Any]) -> dict[str, Any]:
    """A condition on versions that says by which scheme they are ordered."""
    return {"scheme": _scheme(condition), **condition} if "versions" in condition else dict(condition)


def _scheme(condition: Mapping[str, Any]) -> str:
    """By which rules the versions of a condition are ordered; empty where nobody said, and there is no usual one."""
    return str(condition.get("scheme", "" if "firmware" in condition else DEB if "package" in condition else PEP440))


def _check_conditions(document: Document) -> None:
    """Versions have to be a range, and belong to something that has versions."""
    for kind in ("requires", "conflicts"):
        conditions = document.data.get(kind, [])
        for index, condition in enumerate(conditions if isinstance(conditions, list) else []):
            place = (kind, index, "versions")
            if not document.is_good((kind, index), place):
                continue
            if "ci_class" in condition or "hardware" in condition:
                document.problem(place, f"{kind}.{index} has versions, but names nothing that has any", "leave versions out")
                continue
            if not _scheme(condition):
                remedy = "add a scheme: text when versions lists those that fit, or the rules by which they are ordered"
                document.problem(place, f"{kind}.{index} has versions of firmware, which no rules order unless one says which", remedy)
                continue
            try:
                check_range(condition["versions"], _scheme(condition))
            except UnorderedError as error:
                document.problem(place, f"{kind}.{index}.versions can't be used: {error}", 'write it like ">=2.0,<3"')


def _check_ansible(document: Document) -> None:
    """What a role has to bring depends on whether there is a payload, and the other way round."""
    data, own = document.data, document.data.get("ansible")
    if own is None:
        return  # then the schema wants payload and health
    if "payload" in data and "health" not in data:
        document.problem((), "health is missing from the manifest", "add at least one check: what is on the hosts is looked at there")
    for key in (key for key in _OF_THE_TREE if "payload" not in data and data.get(key)):
        remedy = "leave it out and have the role do that, or add a payload"
        document.problem((key,), f"{key} is about what a payload brings to the hosts, and there is none", remedy)
    steps = own.get("steps") if isinstance(own, dict) else None
    if isinstance(steps, list) and document.is_good(("ansible", "steps")):
        for step in ("activate", "check"):
            if "payload" not in data and step not in steps:
                remedy = f"list {step}, and put tasks/{step}.yml into the role"
                document.problem(("ansible", "steps"), f"without a payload the role has to {step} what it brings", remedy)
        for step, other in (("drain", "restore"), ("restore", "drain")):
            if step in steps and other not in steps:
                document.problem(("ansible", "steps"), f"there is {step} without {other}", f"list {other} too, or leave {step} out")
        _check_data(document, own, steps)
    _check_collections(document, own)


def _check_kind(document: Document) -> None:
    """What is only for firmware or hardware stands in a release of that, what is only for software in others, and all goes together."""
    data = document.data
    kind = data.get("kind")
    for key, what in ((FIRMWARE, "images"), (HARDWARE, "parts")):
        if key in data and kind != key:
            is_ = kind if kind in (FIRMWARE, HARDWARE) else "software"
            document.problem((key,), f"{key} is about {what}, and the release is {is_}", f"say kind: {key}, or leave it out")
    if kind not in (FIRMWARE, HARDWARE):
        return
    remedy = "leave it out; what is read of the device itself is looked at instead"
    for key in (key for key in (*_OF_SOFTWARE, *(("payload", "stable") if kind == HARDWARE else ())) if data.get(key)):
        what = "what goes on a host" if key == "payload" else "software on a host"
        document.problem((key,), f"{key} is about {what}, and the release is {kind}", remedy)
    entries = data.get(kind)
    good = [
        (number, entry) for number, entry in enumerate(entries if isinstance(entries, list) else []) if document.is_good((kind, number))
    ]
    numbers = [number for number, _entry in good]
    if kind == FIRMWARE:
        found = image_contradictions([FirmwareImage.of(entry) for _number, entry in good], numbers)
    else:
        documentation = data["documentation"] if document.is_good(("documentation",)) else ()
        found = part_contradictions([PartChange.of(entry) for _number, entry in good], numbers, documentation)
    for number, key, what, remedy in found:
        document.problem((kind, number, key), what, remedy)


def _check_effect(document: Document) -> None:
    """A release whose effect is outside the tree says how that is read, and no other does."""
    data, hooks = document.data, document.data.get("hooks")
    if data.get("kind") in (FIRMWARE, HARDWARE):
        return  # and that has nothing of it
    has_read = isinstance(hooks, dict) and "read" in hooks
    if data.get("effect") != OUTSIDE:
        remedy = "add effect: outside, or leave it out"
        for place in [("hooks", "read")] * has_read + [("reads",)] * ("reads" in data):
            document.problem(place, f"{'.'.join(place)} is about an effect outside the tree, and the release has none", remedy)
        return
    if not has_read:
        remedy = "add one under hooks, a command that prints what the device or the service runs"
        document.problem(("effect",), "the effect is outside, and there is no hook read, so nobody could see it", remedy)
    if "ansible" in data:
        remedy = "bring it there by hooks, or leave effect out"
        document.problem(("ansible",), "the effect is outside, which hooks bring and not a role", remedy)


def _reads(data: Mapping[str, Any]) -> str | None:
    """What a release has to be read as, ``None`` where nothing outside the tree is read."""
    return str(data.get("reads", data["version"])) if data.get("effect") == OUTSIDE else None


def _check_data(document: Document, own: Mapping[str, Any], steps: Collection[str]) -> None:
    """A release that changes data says on which host, and how that is undone or that it can't be."""
    place = ("ansible", "steps")
    if "migrate" not in steps:
        if "reverse" in steps:
            document.problem(place, "there is reverse without migrate", "list migrate too, or leave reverse out")
        for key in (key for key in ("migrate_on", "reverse") if key in own):
            remedy = "list it under steps, or leave this out"
            document.problem(("ansible", key), f"ansible.{key} is about migrate, which is not listed", remedy)
        return
    if "reverse" in steps and "reverse" in own:
        document.problem(("ansible", "reverse"), "there is the step reverse, and reverse: none", "leave one of them out")
    if "reverse" not in steps and "reverse" not in own:
        remedy = "list reverse, and put tasks/reverse.yml into the role; or write reverse: none, which is a point of no return"
        document.problem(place, "there is migrate, and nothing says how that is undone", remedy)
    if "migrate_on" not in own:
        remedy = "add migrate_on, a JMESPath expression over the CIs of a plan that gives one, such as [?name=='db1']"
        document.problem(place, "there is migrate, and nothing says on which host", remedy)
    elif document.is_good(("ansible", "migrate_on")):
        from ..cmdb.query import QueryError, check_query  # noqa: PLC0415 - each fork that stages a package loads this module

        try:
            check_query(own["migrate_on"])
        except QueryError as error:
            what = f"ansible.migrate_on is no JMESPath: {error}"
            document.problem(("ansible", "migrate_on"), what, "write an expression that gives one CI, such as [?name=='db1']")


def _check_collections(document: Document, own: Any) -> None:
    collections = own.get("collections") if isinstance(own, dict) else None
    names = set()
    for index, collection in enumerate(collections if isinstance(collections, list) else []):
        place = ("ansible", "collections", index)
        if not document.is_good(place):
            continue
        if collection["name"] in names:
            document.problem((*place, "name"), f"the collection {collection['name']} is listed twice", "list each once")
        names.add(collection["name"])
        try:
            check_range(collection.get("version", ""), PEP440)
        except UnorderedError as error:
            document.problem((*place, "version"), f"ansible.collections.{index}.version can't be used: {error}", 'write it like ">=9,<11"')


def _check_titles(document: Document) -> None:
    """Each file of the documentation is a file of its own for whoever pulls the package, on file systems that ignore case too."""
    names = document.data.get("documentation")
    own = (PAYLOAD_TITLE, INDEX_TITLE, *((ROLE_TITLE, ROLE_INDEX_TITLE) if "ansible" in document.data else ()))
    taken = {title: f"{title}, as the package's own part is called" for title in own}
    for index, name in enumerate(names if isinstance(names, list) else []):
        place = ("documentation", index)
        if not isinstance(name, str) or not document.is_good(place):
            continue
        folded = unicodedata.normalize("NFC", name).casefold()
        other = taken.get(folded) or taken.get(folded.partition("/")[0])
        if other is not None:
            document.problem(place, f"the documentation {name!a} would be written over {other}", "give the file another name")
        taken[folded] = ascii(name)


def _check_placeholders(document: Document) -> None:
    """Every ``${name}`` of a check, a hook's command or the path of a log has to be a declared setting, or what each release has.

    In commands other ``${`` are a shell's business, and settings come in the environment only.
    """
    settings = document.data.get("settings", {})
    if not isinstance(settings, dict):
        return  # and that was said already
    for place, text in _texts(document.data):
        if not document.is_good(place):
            continue
        if place[-1] == "name" and "${" in text:
            document.problem(place, f"{'.'.join(map(str, place))} has a ${{, which is not filled in there", "write it out")
        elif place[-1] != "name":
            known = [*(name for name in settings if isinstance(name, str)), *(_OWN_OF_HOOKS if place[0] == "hooks" else OWN)]
            check_placeholders(document, place, text, known, "declare it under settings")
            if "command" in place:
                _refuse_settings(document, place, text, settings)
        if place[0] == "health" and place[-1] in ("url", "host", "port") and "${" not in text:
            check_endpoint(document, place, text)


def _refuse_settings(document: Document, place: tuple[str | int, ...], text: str, settings: Mapping[str, Any]) -> None:
    for name in dict.fromkeys(PLACEHOLDER.findall(text)):
        if name in settings and name not in _OWN_OF_HOOKS:
            what = f"${{{name}}} is a setting, and everybody on a host sees the arguments of its commands"
            document.problem(place, what, f"read $TIDEGATE_{name.upper()} from the environment")


def _texts(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The places of a manifest in which ``${name}`` means something, and what stands there, whatever its type should be."""
    hooks, health, logs = data.get("hooks", {}), data.get("health", []), data.get("logs", [])
    for name, hook in hooks.items() if isinstance(hooks, dict) else ():
        yield from _arguments(("hooks", name), hook)
    for index, check in enumerate(health if isinstance(health, list) else []):
        if not isinstance(check, dict):
            continue
        yield ("health", index, "name"), str(check.get("name", ""))
        for kind, key in (("http", "url"), ("http", "contains"), ("tcp", "host"), ("tcp", "port")):
            if isinstance(check.get(kind), dict) and key in check[kind]:
                yield ("health", index, kind, key), str(check[kind][key])
        yield from _arguments(("health", index), check)
    for index, log in enumerate(logs if isinstance(logs, list) else []):
        if isinstance(log, str):
            yield ("logs", index), log


def _arguments(place: tuple[str | int, ...], owner: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    command = owner.get("command") if isinstance(owner, dict) else None
    for index, part in enumerate(command if isinstance(command, list) else []):
        yield (*place, "command", index), str(part)
