# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory that a verification runs in: the lab's policy, RFCs and inventory, and the scenario that is played.

Nothing in it leads to a live host: what says how to reach one is left out of the doubles, and so is what would compute it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ...module_utils.lab.hosts import CONNECTING
from ..cmdb.store import Cmdb
from ..dsl.descriptors import TITLE, canonical
from ..dsl.manifest import Manifest
from ..dsl.package import Package, load_package_manifest
from ..dsl.repository import Library
from ..errors import IntegrityError, TidegateError
from ..evidence.package import PackageName
from ..keys import make_signer
from ..licence.entitlements import save
from ..licence.seats import Entitlement
from ..policy.load import DEFAULT
from ..strict_json import read_object
from .miniature import Miniature
from .model import CONNECTION, Model

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

RFC = "CHG0000001"  # the number of the release's own RFC in the lab
POLICY = "policy.yml"
LIVE_POLICY = "policy-of-live.yml"  # for the releases that live has already: they may be older than what the policy asks of new ones
INVENTORY = "tidegate.release.cmdb"
ACTOR = "verify"
APPROVER = "tidegate.release.verify"  # who approves points of no return in the lab, and their role

_SHIPPED = Path(__file__).parents[3] / "roles" / "verify" / "files" / "scenario"
_PLUGIN = Path(__file__).with_name("pytest_results.py")
_DOCUMENT = 4 << 20  # bytes of a file of a scenario
_BACK_OUT = re.compile(r"^ +- side_effect .*?(?=^ +- destroy$)", re.MULTILINE | re.DOTALL)  # what of the scenario goes back
_INVENTORY_KEYS = ("compose", "groups", "keyed_groups", "strict")


@dataclass(frozen=True)
class LabHosts:
    """Where lab hosts are: ``mode`` is isolated, user or local; the rest is as the module lab has it."""

    mode: str
    network: str = "127.0.1"
    first: int = 1
    port: int = 2022
    disk: str = "1g"


@dataclass(frozen=True)
class Given:
    """Files of the caller's: the policy, the inventory of live, and variables of the lab's hosts. ``archived``: whether the release is, so
    that it can have been signed."""

    policy: str | None = None
    inventory: tuple[str, ...] = ()
    vars_file: str | None = None
    archived: bool = True


@dataclass(frozen=True)
class Scene:
    """A verification's directory. ``before``: what is installed on each double before the release comes; ``lacking``: what can't be.
    ``replaced``: the releases that are deployed for that, by the numbers of their RFCs in the lab, in order. ``steps``: those of the role
    that the release brings, ``None`` without one.

    ``no_return``: the numbers of the RFCs behind which data don't come back. ``approver``: approves these in place of everybody. Its key
    is in no file, and only this lab's policies know it, so what it signs counts nowhere else. ``None`` when there is nothing to approve.
    """

    path: Path
    before: Mapping[str, frozenset[tuple[str, str, str]]]
    lacking: tuple[str, ...]
    replaced: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] | None = None
    no_return: tuple[str, ...] = ()
    approver: Signer | None = None

    @property
    def cmdb(self) -> Path:
        """The CMDB of the lab."""
        return self.path / "cmdb.sqlite"

    @property
    def results(self) -> Path:
        """Where the tests write what came of them."""
        return self.path / "tests.jsonl"

    @property
    def scenario(self) -> Path:
        """What molecule plays."""
        return self.path / "molecule" / "verify"

    def policy_of(self, number: str) -> Path:
        """The policy by which an RFC is cleared in the lab."""
        return self.path / (POLICY if number == RFC else LIVE_POLICY)

    def fingerprint(self) -> str:
        """The sha256 of what is played: of each file its name and content."""
        files = sorted(path for path in self.scenario.rglob("*") if path.is_file())
        listed = [[str(path.relative_to(self.scenario)), hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]
        return hashlib.sha256(canonical(listed)).hexdigest()

    def facts(self) -> dict[str, Any]:
        """What the lab's hosts were found to be, and what was installed there before; nothing of a host that nobody looked at."""
        found: dict[str, Any] = {}
        for double, releases in self.before.items():
            try:
                facts = read_object((self.path / "facts" / f"{double}.json").read_bytes(), "what was found on a lab host")
                found[double] = {**facts, "releases": [list(one) for one in sorted(releases)]}
            except (OSError, IntegrityError):
                continue
        return found


def build(
    path: Path,
    plan: Miniature,
    like: Model,
    library: Library,
    release: PackageName,
    package: Package,
    lab: LabHosts,
    given: Given,
    now: datetime,
) -> Scene:
    """Write the directory ``path``, with a CMDB that is ``like`` live.

    Raises :class:`TidegateError` when the release's own scenario, or what is ``given``, can't be used.
    """
    there = {one: library.repository(one[0]).resolve(one[0], one[1]) == one[2] for one in plan.releases}
    lacking = [f"{name} {version}, which is live, is not in the DSL" for (name, version, _digest), is_in in there.items() if not is_in]
    before = {double: frozenset(one for one in host.releases if there[one]) for double, host in plan.hosts.items()}
    manifests = {one: load_package_manifest(library.repository(one[0]), one[2]) for one in plan.releases if there[one]}
    own = own_scenario(library, release.name, package)
    if lab.mode != "isolated" and "create.yml" not in own:  # what makes the hosts
        _refuse_here(lab, [package.manifest, *manifests.values()])
    replaced = {f"CHG{number:07}": one for number, one in enumerate(_in_order(manifests), start=2)}
    labels = {number: f"{one[0]} {one[1]}" for number, one in replaced.items()}
    no_return = [number for number, one in replaced.items() if manifests[one].no_return] + [RFC] * package.manifest.no_return
    approver, public = make_signer() if no_return else (None, "")
    steps = None if package.manifest.ansible is None else package.manifest.ansible.steps
    scene = Scene(path, before, (*lacking, *like.lacking), labels, steps, tuple(no_return), approver)
    policy = _policy(given.policy)
    if not given.archived:
        policy.pop("trust", None)
    asks_nothing = {key: value for key, value in policy.items() if key not in ("people", "trust")}
    for name, rules in ((POLICY, policy), (LIVE_POLICY, asks_nothing)):
        _write(path / name, _with_approver(rules, public) if approver else rules)
    _write(path / "inventory" / "cmdb.yml", _inventory(given.inventory, scene.cmdb, sorted(plan.hosts)))
    if given.vars_file is not None:
        for double in plan.hosts:
            _put(path / "inventory" / "host_vars" / f"{double}.yml", _read(given.vars_file))
    _write(path / f"{RFC}.yml", _rfc(RFC, release, sorted(plan.hosts), now))
    _fill(scene.cmdb, like, {manifest.licensed_product for manifest in (package.manifest, *manifests.values())}, now)
    for number, one in replaced.items():
        doubles = sorted(double for double, releases in before.items() if one in releases)
        _write(path / f"{number}.yml", _rfc(number, PackageName(*one), doubles, now))
    hosts = [{**row["attributes"], **_plain(row)} for row in like.doubles]
    users = sorted({manifest.user for manifest in (package.manifest, *manifests.values()) if manifest.user not in (None, "root")})
    digests = {release.digest: package.manifest, **{one[2]: manifest for one, manifest in manifests.items()}}
    variables = {
        "hosts_of_the_lab": hosts,
        "users_of_the_lab": users,
        "treeless": sorted(digest for digest, manifest in digests.items() if not manifest.has_tree),
        "former": list(replaced),
        "release": RFC,
        "lab": vars(lab),
        "work": str(path),
    }
    _write(path / "scene.json", variables)
    for source in sorted(one for one in _SHIPPED.rglob("*") if one.is_file() and "__pycache__" not in one.parts):
        _put(scene.scenario / source.relative_to(_SHIPPED), source.read_bytes())
    if package.manifest.no_return:
        shipped = scene.scenario / "molecule.yml"
        shipped.write_text(_BACK_OUT.sub("", shipped.read_text(encoding="utf-8")), encoding="utf-8")
    for name, content in own.items():
        _put(scene.scenario / name, content)
    _put(path / "python" / "tidegate_test_results.py", _PLUGIN.read_bytes())
    (path / "facts").mkdir()
    return scene


def _refuse_here(lab: LabHosts, manifests: Iterable[Manifest]) -> None:
    """Raise :class:`TidegateError` when this machine itself would get packages of the operating system, or what a role does to hosts."""
    for manifest in manifests:
        brings = "packages of the operating system" if manifest.packages is not None else "a role" if manifest.ansible is not None else ""
        if brings:
            raise TidegateError(
                f"{manifest.name} {manifest.version} brings {brings}, and the hosts of a lab of mode {lab.mode} are this machine, which "
                "would be changed; run verify as root where hosts can be isolated, or let the release's own scenario make hosts"
            )


def own_scenario(library: Library, name: str, package: Package) -> dict[str, bytes]:
    """The files of the release's own scenario, by their paths in it; they take the place of those that are shipped."""
    folder = package.manifest.scenario
    if folder is None:
        return {}
    package.manifest.check()  # its names become paths
    files = {}
    for part in package.documentation:
        title = part.annotations.get(TITLE, "")
        if title.startswith(f"{folder}/") and title in package.manifest.documentation:
            content = library.repository(name).read_blob(part.digest, _DOCUMENT)
            files[title.removeprefix(f"{folder}/")] = content
    if not files:
        raise IntegrityError(
            f"the package of {name} {package.manifest.version} lacks its scenario {folder}; archive it again under a new version"
        )
    return files


# What a rollout says of the hosts that there are, and what live's Prometheus knows of them.
_OF_LIVE = frozenset({"canary_hosts", "rings", "classes", "stay_up", "bake", "canary_bake", "together"})


def _policy(path: str | None) -> dict[str, Any]:
    """What of the policy holds in the lab too: who signs packages, what a host is, how a rollout goes. What live alone has is not asked."""
    given = yaml.safe_load(Path(path or DEFAULT).read_text(encoding="utf-8"))
    policy: dict[str, Any] = {"schema": 1, "approvals": {"standard": 0}}
    policy.update({key: given[key] for key in ("people", "host_classes", "rollout") if given.get(key)})
    # The lab has other hosts, and fewer; and it is gone when it was tried, so what does not get the release then does not get it.
    rollout = {key: value for key, value in policy.get("rollout", {}).items() if key not in _OF_LIVE}
    policy["rollout"] = {**rollout, "support": {"hours": 0, "late_days": 0}}
    if "package" in (given.get("trust") or {}):
        policy["trust"] = {"package": given["trust"]["package"]}
    return policy


def _with_approver(policy: Mapping[str, Any], public: str) -> dict[str, Any]:
    """A policy of the lab by which nobody but the holder of one key has to approve a point of no return."""
    people = {**policy.get("people", {}), APPROVER: {"roles": [APPROVER], "keys": [{"public": public}]}}
    return {**policy, "people": people, "no_return": {APPROVER: 1}}


def _fill(path: Path, like: Model, products: Collection[str | None], now: datetime) -> None:
    """Make the lab's CMDB. Nobody counts the seats of a lab, but a release that uses a licensed product has to find some."""
    starting: dict[str, list[dict[str, str]]] = {}
    for source, target, kind in like.relations:
        starting.setdefault(source, []).append({"kind": kind, "target": target})
    with Cmdb.open(str(path), create=True) as cmdb:
        rows = [{**row, "relations": starting.get(row["name"], [])} for row in (*like.doubles, *like.neighbours)]
        cmdb.put_cis(rows, ACTOR, copied=True)
        with cmdb.begin() as connection:
            cmdb.record_installations(connection, like.installed, ACTOR, now)
            for product in sorted(filter(None, products)):
                save(connection, Entitlement(f"{product} in the lab", product, len(like.doubles)), ACTOR, now, write=True)


def _in_order(manifests: Mapping[tuple[str, str, str], Manifest]) -> list[tuple[str, str, str]]:
    """Releases, each after those that it requires; where that goes round in a circle, by name."""
    needed = {
        one: [other for other in manifests for condition in manifest.requires if condition.get("release") == other[0] != one[0]]
        for one, manifest in sorted(manifests.items())
    }
    try:
        return list(TopologicalSorter(needed).static_order())
    except CycleError:
        return list(needed)


def check_variables(path: str) -> None:
    """Raise :class:`TidegateError` when a file can't give variables to the lab's hosts; one that Ansible Vault has encrypted may."""
    content = _read(path)
    if content.startswith(b"$ANSIBLE_VAULT;"):
        return
    try:
        node = yaml.compose(content, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise TidegateError(f"{where}: it is no YAML ({getattr(error, 'problem', None) or 'unreadable'}); correct it") from error
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise TidegateError(f"{path}:1: it is not a mapping; write variables and their values, one a line, as in name: value")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TidegateError(f"{path}, the variables of the lab's hosts, can't be read ({error.strerror}); name a file that can") from error


def _inventory(sources: Iterable[str], cmdb: Path, doubles: list[str]) -> dict[str, Any]:
    """The inventory of the lab: what that of live computes, but for how hosts are reached. It has no CIs without a host."""
    inventory: dict[str, Any] = {
        "plugin": INVENTORY,
        "cmdb": str(cmdb),
        "query": _picking(doubles),
        "connection_variables": list(CONNECTING),
    }
    paths = (path for source in map(Path, sources) for path in (sorted(source.iterdir()) if source.is_dir() else [source]))
    for source in paths:
        if source.suffix not in (".yml", ".yaml") or not source.is_file():
            continue
        try:
            given = yaml.safe_load(source.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise TidegateError(f"the inventory {source} can't be read: {' '.join(str(error).split())}") from error
        if isinstance(given, dict) and given.get("plugin") == INVENTORY:
            inventory.update({key: given[key] for key in _INVENTORY_KEYS if key in given})
    compose = inventory.get("compose")
    if isinstance(compose, dict):
        inventory["compose"] = {key: value for key, value in compose.items() if not str(key).startswith(CONNECTION)}
    return inventory


def _rfc(number: str, release: PackageName, hosts: list[str], now: datetime) -> dict[str, Any]:
    start = now.replace(microsecond=0) - timedelta(hours=1)
    return {
        "schema": 1,
        "number": number,
        "type": "standard",
        "state": -2,
        "risk": 4,
        "impact": 3,
        "short_description": f"{release.name} {release.version} in the lab",
        "requested_by": "tidegate",
        "start_date": start.isoformat(),
        "end_date": (start + timedelta(days=1)).isoformat(),
        "backout_plan": "It is a lab.",
        "test_plan": "The scenario.",
        "release": {"name": release.name, "version": release.version, "digest": release.digest},
        "scope": _picking(hosts),
        "approvals": [],
    }


def _picking(hosts: list[str]) -> str:
    return f"[?contains(`{json.dumps(hosts)}`, name)]"


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "attributes"}


def _write(path: Path, document: Mapping[str, Any]) -> None:
    """JSON is YAML, and nobody but a program reads it."""
    _put(path, json.dumps(document, indent=1).encode())


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
