# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import watch
from bed import Host
from documents import example_policy, manifest, rfc, write_document
from hypothesis import HealthCheck, settings

# How fast examples are made says how busy the machine is, and nothing of what is tested.
settings.register_profile("tidegate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For a night: pytest --hypothesis-profile=thorough. What is slow has a share of the profile's examples.
settings.register_profile("thorough", settings.get_profile("tidegate"), max_examples=1000)
settings.load_profile("tidegate")


def pytest_collection_finish() -> None:
    """What is loaded by now stays, so the garbage collector of a fork need not look at it, and its pages stay shared."""
    gc.collect()
    gc.freeze()


DOCUMENTS = {"release": manifest, "rfc": rfc, "policy": example_policy}
WriteDocument = Callable[..., Path]


@pytest.fixture(params=DOCUMENTS)
def valid(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each kind of document with one that is valid."""
    return request.param, DOCUMENTS[request.param]()


@pytest.fixture
def write(tmp_path: Path) -> WriteDocument:
    """Write a valid release, rfc or policy with these keys replaced, or left out where they are ``...``; returns its path."""
    return lambda kind, /, **changes: write_document(tmp_path / f"{kind}.yml", DOCUMENTS[kind](**changes))


@pytest.fixture
def no_orphans(tmp_path: Path) -> Iterator[None]:
    """What hooks leave running goes with the machine's next start; in a test it ends with it."""
    yield
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(f"{tmp_path}/root/") in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture
def host(tmp_path: Path, no_orphans: None) -> Iterator[Host]:
    """A host whose releases are below a directory of the test's own."""
    made = Host(tmp_path / "root")
    yield made
    with contextlib.suppress(OSError):
        watch.end(made.home.watch)
