# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release's hooks and health checks get to know on this host, and how they are run and what they say."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from .account import find_account
from .endpoint import EndpointError, fill
from .health import CheckError, attempt, run_command, wait_healthy
from .processes import MARK, below, marked, start_time
from .redaction import Redactor
from .release_home import HostError, Release, ReleaseHome
from .repair import Supplies
from .supervision import Precautions

_GLANCE = 2.0  # seconds for one look at a health check that should not pass
_READING = re.compile(rb"([!-~](?:[ -~]{0,198}[!-~])?)\n?")


class Terms(NamedTuple):
    """``patience``: for how many seconds a host stays armed when nobody says the instant. ``skew``: by how many seconds its clock may be
    stepped meanwhile."""

    patience: float
    skew: float


class Order:
    """Who wants a change: the deployment, its fencing token, the host's values for the release's settings, and what came with the order.

    ``stable``: for how many seconds a release that came up has to stay healthy. ``checked``: whether health is looked at; not while there
    is more to be done to the host, before the same order comes again. ``previous`` and ``next`` are the versions from which and to which
    the host switches, for the hooks; empty for none. ``leaving`` is the release from which it does, and ``packages_of`` the one whose
    packages the host is known to have as that left them. ``reading``: what was read last outside the trees, for the answer, with the
    digest of the release that it is, if it is one of these; ``None`` when nothing was to be read. ``confirm_within``: after how many
    seconds the host goes back by itself, unless it is reached anew; 0 for never. ``unknown``: whether it is not known how an earlier
    attempt of this deployment has ended here. ``terms``: those of a host that is armed.
    ``is_guard``: whether nobody wants it any more but the guard that the order had set.
    """

    def __init__(
        self,
        deployment: str,
        token: int,
        settings: Mapping[str, Any],
        supplies: Optional[Supplies] = None,
        stable: float = 0,
        checked: bool = True,
        confirm_within: float = 0,
        unknown: bool = False,
        terms: Optional[Terms] = None,
    ) -> None:
        self.deployment = deployment
        self.token = token
        self.settings = settings
        self.supplies = supplies or Supplies()
        self.stable = stable
        self.checked = checked
        self.confirm_within = confirm_within
        self.unknown = unknown
        self.terms = terms or Terms(0, 0)
        self.is_guard = False
        self.previous = self.next = ""
        self.leaving: Optional[Release] = None
        self.packages_of: Optional[Release] = None
        self.reading: Optional[dict[str, str]] = None

    def switch(self, previous: Optional[Release], following: Optional[Release]) -> None:
        """From now on the host switches from the release ``previous`` to ``following``; nothing stands for having none."""
        self.previous, self.next = (release.version if release else "" for release in (previous, following))
        self.leaving = previous

    @functools.cached_property
    def redactor(self) -> Redactor:
        """Knows the host's values, which nothing that is written or answered may have."""
        return Redactor(self.settings)

    def entry(self, **data: Any) -> dict[str, Any]:
        """What every log entry of this order carries."""
        return {"deployment": self.deployment, "token": self.token, **data}


def _settings(release: Release, order: Order) -> dict[str, Any]:
    """The release's settings with this host's values; raises :class:`HostError` naming all that lack one."""
    values = {name: order.settings.get(name, default) for name, default in release.config.get("settings", {}).items()}
    lacking = sorted(name for name, value in values.items() if value is None)
    if lacking:
        raise HostError(
            f"{release.name} {release.version} needs {', '.join(lacking)} from this host; set tidegate_settings in its inventory variables"
        )
    bad = sorted(name for name, value in values.items() if "\0" in str(value))
    if bad:
        raise HostError(f"the settings {', '.join(bad)} of this host have a null byte in them; correct tidegate_settings")
    return values


def _own(home: ReleaseHome, release: Release) -> dict[str, Any]:
    """What ``${name}`` stands for everywhere; of commands it is all, for everybody on the host sees their arguments."""
    return {"release": release.name, "version": release.version, "digest": release.digest, "tree": release.tree, "state": home.state}


def values_for(home: ReleaseHome, release: Release, order: Order) -> dict[str, Any]:
    """What ``${name}`` stands for in checks: the settings, and what each release has; raises what :func:`_settings` raises."""
    return {**_settings(release, order), **_own(home, release)}


def _environment(home: ReleaseHome, release: Release, order: Order) -> dict[str, str]:
    environment = {f"TIDEGATE_{name.upper()}": str(value) for name, value in _settings(release, order).items()}
    environment.update(
        TIDEGATE_RELEASE=release.name,
        TIDEGATE_VERSION=release.version,
        TIDEGATE_DIGEST=release.digest,
        TIDEGATE_TREE=str(release.tree),
        TIDEGATE_STATE=str(home.state),
    )
    return environment


def for_checks(home: ReleaseHome, release: Release, order: Order) -> tuple[dict[str, Any], str, dict[str, str], Precautions]:
    """What the checks of a release need to know: settings, directory, environment, and what is minded."""
    return values_for(home, release, order), str(release.tree), _environment(home, release, order), _precautions(release, order)


def _precautions(release: Release, order: Order) -> Precautions:
    return Precautions(order.redactor, find_account(release.config))


def run_hook(home: ReleaseHome, release: Release, name: str, order: Order, stdout: Optional[int] = None) -> str:
    """Run a hook, if the release has it; return the mark that what it left running carries. ``stdout``: see :func:`run_command`."""
    hook = release.config.get("hooks", {}).get(name)
    mark = ""
    if hook:
        try:
            with home.running_hook(name) as mark:
                environment = {
                    **_environment(home, release, order),
                    "TIDEGATE_PREVIOUS": order.previous,
                    "TIDEGATE_NEXT": order.next,
                    MARK: mark,
                }
                values = {**_own(home, release), "previous": order.previous, "next": order.next}
                command = [fill(part, values) for part in hook["command"]]
                log, precautions = str(home.output_of(name)), _precautions(release, order)
                run_command(command, hook["timeout"], str(release.tree), environment, log, precautions, stdout)
        except (CheckError, EndpointError) as error:
            raise CheckError(f"hook {name} of {release.name} {release.version}: {error}") from error
    return mark


def read_outside(home: ReleaseHome, release: Release, order: Order) -> str:
    """What the hook ``read`` of a release prints, by which that is known which runs outside the trees.

    Raises :class:`CheckError` and :class:`HostError` when it fails, or prints anything but one line that can be the name of a version.
    """
    reader, writer = os.pipe()
    try:
        run_hook(home, release, "read", order, writer)
        os.set_blocking(reader, False)  # what it has left running may go on to write
        try:
            said = os.read(reader, 1024)
        except BlockingIOError:
            said = b""
    finally:
        os.close(reader)
        os.close(writer)
    found = _READING.fullmatch(said)
    if found is None:
        wrong = "something else than one line of at most 200 printable ASCII characters" if said else "nothing"
        raise CheckError(f"hook read of {release.name} {release.version} printed {wrong}")
    return found[1].decode("ascii")


def outside_fault(home: ReleaseHome, wanted: Optional[Release], order: Order, *, back: bool = False) -> str:
    """Why what is outside the trees does not run the release ``wanted``, in words; nothing when it does, or no release acts there.

    Whatever hooks and checks said: it is asked itself. With ``back`` the host goes back to ``wanted``, so the release that is left is
    asked where that knows nothing of it.
    """
    asked = wanted if wanted is not None and wanted.acts_outside else order.leaving if back else None
    if asked is None or not asked.acts_outside:
        return ""
    order.reading = {"text": "", "digest": ""}
    try:
        said = read_outside(home, asked, order)
    except (CheckError, HostError, OSError) as error:
        return f"what it runs can't be read: {error}"
    known = {release.reads: release.digest for release in (order.leaving, wanted) if release is not None}
    order.reading = {"text": said, "digest": known.get(said, "")}
    if wanted is None:
        return f"it says {said}, and nothing is known of what it said before {asked.name}"
    return "" if said == wanted.reads else f"it says {said}, and with {wanted.name} {wanted.version} it has to say {wanted.reads}"


def end_of(mark: str) -> Callable[[], str]:
    """Says in words that all that a hook left running has ended; nothing as long as something runs, or when it left nothing.

    A service that another service manager starts, or that cleans its environment, does not carry the mark. One that loses it later, as
    many do by giving themselves a title, is still the process that was seen with it.
    """
    known = marked(mark) if mark else {}

    def ended() -> str:
        if not known:
            return ""
        known.update(marked(mark))
        known.update(below(known))
        running = {pid: moment for pid, moment in known.items() if start_time(pid) == moment}
        return "" if running else "all that the start hook left running has ended"

    return ended


def check_health(home: ReleaseHome, release: Release, order: Order, ended: Callable[[], str] = lambda: "") -> None:
    """Wait until each health check passes; raises what :func:`health.wait_healthy` raises. ``ended`` says that none can any more."""
    for check in release.config["health"]:
        settings, tree, environment, precautions = for_checks(home, release, order)
        wait_healthy(check, settings, tree, environment, ended, precautions)


def serves(home: ReleaseHome, release: Release, order: Order) -> bool:
    """Whether all health checks of a release pass at the first attempt; not when the host lacks a setting for them."""
    try:
        return all(passes(home, release, check, order) for check in release.config["health"])
    except HostError:
        return False


def passes(home: ReleaseHome, release: Release, check: Mapping[str, Any], order: Order) -> bool:
    """Whether one health check passes at once."""
    seconds = min(check["timeout"], _GLANCE)
    try:
        attempt(check, seconds, *for_checks(home, release, order))
    except CheckError:
        return False
    return True


def is_healthy(home: ReleaseHome, release: Release, order: Order) -> bool:
    """Whether all health checks pass, each in its time."""
    try:
        check_health(home, release, order)
    except (CheckError, HostError):
        return False
    return True


def trouble(home: ReleaseHome, release: Release, order: Order) -> str:
    """What is wrong with ``release`` at this moment; nothing is tried again."""
    for check in release.config["health"]:
        try:
            attempt(check, check["timeout"], *for_checks(home, release, order))
        except (CheckError, HostError) as error:
            return f"health check {check['name']!r} failed: {error}"
    return ""
