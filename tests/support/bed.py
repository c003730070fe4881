# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A managed host in a temporary directory, packages made for it, and a child that is killed wherever one likes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ansible_collections.tidegate.release.plugins.module_utils.activation import Order, activate, back_out, confirm
from ansible_collections.tidegate.release.plugins.module_utils.instant import arm, arm_back, await_switch, collect, tell
from ansible_collections.tidegate.release.plugins.module_utils.mirror import Mirror
from ansible_collections.tidegate.release.plugins.module_utils.payload_format import END, members, padding
from ansible_collections.tidegate.release.plugins.module_utils.release_home import ReleaseHome, Texts, changed_files, extra_files
from ansible_collections.tidegate.release.plugins.module_utils.release_hooks import Terms
from ansible_collections.tidegate.release.plugins.module_utils.repair import Lacking, Supplies
from ansible_collections.tidegate.release.plugins.module_utils.staging import stage
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.chunks import LARGE, Chunker

PAYLOAD = "application/vnd.oci.image.layer.v1.tar"
INDEX = "application/vnd.tidegate.release.index.v1+json"

# A service made of files: it runs when the file `running` in its state directory says its version.
SERVICE = {
    "bin/start": (
        b'#!/bin/sh\necho "start $TIDEGATE_VERSION" >>"$TIDEGATE_STATE/calls"\necho "$TIDEGATE_VERSION" >"$TIDEGATE_STATE/running"\n'
    ),
    "bin/stop": b'#!/bin/sh\necho "stop $TIDEGATE_VERSION" >>"$TIDEGATE_STATE/calls"\nrm -f "$TIDEGATE_STATE/running"\n',
    "bin/healthy": b'#!/bin/sh\n[ "$(cat "$TIDEGATE_STATE/running")" = "$TIDEGATE_VERSION" ]\n',
}
HOOKS = {"start": {"command": ["bin/start"], "timeout": 10}, "stop": {"command": ["bin/stop"], "timeout": 10}}
HEALTH = [{"name": "runs", "command": ["bin/healthy"], "timeout": 2}]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def link(target: str) -> dict[str, Any]:
    return {"type": "link", "target": target}


@dataclass(frozen=True)
class Package:
    """A package as the controller sends it; ``contents`` by sha256, and ``pieces``: those and the chunks of large ones."""

    version: str
    documents: tuple[bytes, bytes, bytes]
    contents: dict[str, bytes]
    payload: bytes = b""

    @property
    def pieces(self) -> dict[str, bytes]:
        found = dict(self.contents)
        for entry in json.loads(self.documents[2])["files"]:
            offset = entry.get("offset", 0)
            for length, name in entry.get("chunks", ()):
                found[name] = self.payload[offset : offset + length]
                offset += length
        return found

    @property
    def digest(self) -> str:
        return f"sha256:{sha(self.documents[0])}"

    @property
    def id(self) -> str:
        return f"{self.version}-{self.digest[7:19]}"

    def pack(self, need: list[str]) -> bytes:
        return gzip.compress(json.dumps(sorted(need)).encode() + b"\n" + b"".join(self.pieces[name] for name in sorted(need)), 1)


def assemble(config: Mapping[str, Any], entries: list[Any], contents: Mapping[str, bytes], payload: bytes = END) -> Package:
    """A package of just these documents, sound or not."""
    texts = [json.dumps(config).encode(), json.dumps({"files": entries}).encode()]
    manifest = {
        "config": {"digest": f"sha256:{sha(texts[0])}"},
        "layers": [
            {"mediaType": PAYLOAD, "digest": f"sha256:{sha(payload)}", "size": len(payload)},
            {"mediaType": INDEX, "digest": f"sha256:{sha(texts[1])}"},
        ],
    }
    return Package(str(config.get("version")), (json.dumps(manifest).encode(), texts[0], texts[1]), dict(contents), payload)


def tarred(entries: list[dict[str, Any]], contents: Mapping[str, bytes]) -> bytes:
    """The tar of these entries of a file index, which get to know where in it their contents are."""
    payload = bytearray()
    for entry, head, place in members(entries):
        payload += head
        if entry["type"] == "file":
            cast("dict[str, Any]", entry)["offset"] = place
            content = contents.get(entry["sha256"], bytes(entry["size"]))
            payload += content + padding(len(content))
    return bytes(payload + END)


def forge(record: Path, part: str, old: str, new: str) -> None:
    """Change a document in a release's record, as somebody would who knows how it is written."""
    texts = Texts.of_record(record.read_bytes())
    text: bytes = getattr(texts, part)
    assert old.encode() in text
    record.write_bytes(texts._replace(**{part: text.replace(old.encode(), new.encode())}).record())


def package(version: str = "1.0", files: Mapping[str, Any] | None = None, modes: Mapping[str, int] | None = None, **config: Any) -> Package:
    """A sound package: ``files`` has bytes, or a link, by path; what is in ``bin`` may be run unless ``modes`` says something else."""
    entries: dict[str, dict[str, Any]] = {}
    contents = {}
    for path, content in {**SERVICE, "version": version.encode(), **(files or {})}.items():
        for parent in Path(path).parents:
            if parent.parts:
                entries[str(parent)] = {"path": str(parent), "type": "directory", "mode": 0o755}
        if isinstance(content, dict):
            entries[path] = {"path": path, **content}
            continue
        mode = 0o755 if path.startswith("bin/") else 0o644
        entry = {"path": path, "type": "file", "mode": mode, "size": len(content), "sha256": sha(content)}
        entries[path] = entry
        contents[sha(content)] = content
        if len(content) > LARGE:
            chunker = Chunker()
            chunker.update(content)
            entry["chunks"] = chunker.chunks()
    whole = {"name": "hello", "version": version, "settings": {}, "hooks": HOOKS, "health": HEALTH, **config}
    for path, own in (modes or {}).items():
        entries[path]["mode"] = own
    listed = [entries[path] for path in sorted(entries)]
    payload = tarred(listed, contents)
    return assemble(whole, listed, contents, payload)


@dataclass
class Host:
    """One home under ``root``; ``token`` is the controller's."""

    root: Path
    token: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    share: bool = False
    stable: float = 0
    confirm_within: float = 0
    unknown: bool = False
    terms: Terms = field(default_factory=lambda: Terms(60, 0.25))

    @property
    def home(self) -> ReleaseHome:
        return ReleaseHome(str(self.root), "hello")

    @property
    def order(self) -> Order:
        return self.order_with(Supplies())

    def order_with(self, supplies: Supplies) -> Order:
        return Order(
            "hello-1",
            self.token,
            self.settings,
            supplies,
            self.stable,
            confirm_within=self.confirm_within,
            unknown=self.unknown,
            terms=self.terms,
        )

    def ask(
        self, what: Package, pack: Path | None = None, keep: int = 3, protect: tuple[str, ...] = (), mirror: str | None = None
    ) -> dict[str, Any]:
        home = self.home
        with home.locked(1):
            source = Mirror(mirror) if mirror else None
            return stage(home, what.digest, what.documents, pack, keep, protect, self.token, "hello-1", source, self.share)

    def stage(self, what: Package, keep: int = 3, protect: tuple[str, ...] = ()) -> dict[str, Any]:
        """Ask and send, as the controller does."""
        answer = self.ask(what, None, keep, protect)
        if answer["state"] == "lacking":
            pack = self.root.with_name(f"{self.root.name}.pack")
            pack.write_bytes(what.pack(answer["need"]))
            answer = self.ask(what, pack, keep, protect)
        return answer

    def activate(self, what: Package, previous: Package | None = None) -> dict[str, Any]:
        """Activate and look again at once, as two controllers' steps with nothing to wait for in between."""
        answer = self.start(what, previous)
        if answer["state"] != "started":
            return answer
        looked = self.confirm(what, previous)
        return {**answer, **looked, "changed": answer["changed"] or looked["changed"]}

    def confirm(self, what: Package, previous: Package | None = None) -> dict[str, Any]:
        home = self.home
        with home.locked(1):
            return confirm(home, what.digest, previous.digest if previous else None, self.order)

    def start(self, what: Package, previous: Package | None = None) -> dict[str, Any]:
        home = self.home
        with home.locked(1):
            return activate(home, what.digest, previous.digest if previous else None, self.order)

    def arm(self, what: Package, previous: Package | None = None) -> dict[str, Any]:
        home = self.home
        with home.locked(1):
            return arm(home, what.digest, previous.digest if previous else None, self.order)

    def arm_back(self, what: Package, previous: Package | None = None) -> dict[str, Any]:
        home = self.home
        with home.locked(1):
            return arm_back(home, what.digest, previous.digest if previous else None, self.order)

    def tell(self, at: float) -> dict[str, Any]:
        home = self.home
        with home.locked(1):
            return tell(home, at, self.order)

    def collect(self, what: Package, previous: Package | None = None) -> dict[str, Any]:
        home = self.home
        await_switch(home, 30)
        with home.locked(30):
            return collect(home, what.digest, previous.digest if previous else None, self.order)

    def back_out(self, what: Package, previous: Package | None = None) -> dict[str, Any]:
        home = self.home
        with home.locked(1):
            return back_out(home, what.digest, previous.digest if previous else None, self.order)

    def switch(
        self, operation: Callable[..., dict[str, Any]], what: Package, previous: Package | None = None
    ) -> tuple[dict[str, Any], int]:
        """Activate or back out as the controller does, which brings what the host lacks; and how often the host was asked."""
        packages = {package.digest: package for package in (what, previous) if package}
        supplies = Supplies(more=True)
        for trips in range(1, 9):
            home = self.home
            with home.locked(1):
                try:
                    order = self.order_with(supplies)
                    return operation(home, what.digest, previous.digest if previous else None, order), trips
                except Lacking as lacking:
                    found = packages[lacking.answer["package"]]
                    need = lacking.answer["need"]
            supplies = Supplies(Texts(*found.documents), io.BytesIO(found.pack(need)) if need else None, more=True)
        raise AssertionError("it goes on asking")

    def deploy(self, what: Package, previous: Package | None = None) -> dict[str, Any]:
        self.stage(what)
        return self.activate(what, previous)

    @property
    def live(self) -> str | None:
        release = self.home.live()
        return release.version if release else None

    @property
    def running(self) -> str | None:
        path = self.home.state / "running"
        return path.read_text().strip() if path.exists() else None

    @property
    def calls(self) -> list[str]:
        path = self.home.state / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def events(self) -> list[str]:
        return [event["event"] for event in self.log]

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log that say something, as the host itself reads them."""
        lines = (self.home.path / "log.jsonl").read_bytes().splitlines()
        return [event for line in lines if (event := self.home._event(line)) is not None]

    def tree(self, what: Package) -> Path:
        return self.home.releases / what.id / "tree"

    def assert_whole(self) -> None:
        """Whatever is visible as a release is one, byte for byte."""
        self.assert_whole_but()

    def assert_whole_but(self, *damaged: Package) -> None:
        """As :meth:`assert_whole`, except for these."""
        home = self.home
        names = sorted(os.listdir(home.releases)) if home.releases.exists() else []
        assert [release.id for release in home.all()] == names
        for release in home.all():
            assert (changed_files(release) == []) is (release.id not in {package.id for package in damaged})
            assert extra_files(release) == []


_STEPS = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.chmod", "os.fork"}


def killed_at(step: int, action: Callable[[], object], where: Path) -> bool:
    """Run ``action`` in a child that is killed just before its change number ``step`` under ``where``; false when it got to its end."""
    child = os.fork()
    if child == 0:
        try:
            left, victim = step, os.getpid()

            def strike(event: str, arguments: tuple[Any, ...]) -> None:
                nonlocal left
                if os.getpid() != victim:
                    return  # what it has forked is not what is killed
                path = arguments[0] if arguments else None
                writes = event == "open" and isinstance(path, (str, bytes)) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
                if event in _STEPS or (writes and os.fsdecode(path).startswith(str(where))):
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(strike)
            action()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(1)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def save(host: Host) -> Path:
    """A copy of ``host`` beside it, hard links and all, for :func:`restore`."""
    saved = host.root.with_name(f"{host.root.name}.saved")
    subprocess.run(["cp", "-a", host.root, saved], check=True)
    return saved


def restore(host: Host, saved: Path) -> None:
    """Make ``host`` what it was, at a small part of what doing all of that once more costs."""
    shutil.rmtree(host.root)
    subprocess.run(["cp", "-a", saved, host.root], check=True)


def killed_everywhere(root: Path, prepare: Callable[[Host], object], action: Callable[[Host], object]) -> Iterator[Host]:
    """A host on which ``action`` was killed just before its first change, then its second, and so on until it got to its end.

    What ``prepare`` leaves is what each of them begins with.
    """
    host = Host(root)
    prepare(host)
    saved = save(host)
    step, killed = 0, True
    while killed:
        step += 1
        restore(host, saved)
        killed = killed_at(step, lambda: action(host), root)
        yield host
