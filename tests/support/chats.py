# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chats that take messages as strictly as the real ones: another token, another field or a thread that is not there is refused."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

TOKEN = "xoxb-1234567890-1234567890-4ddbc191d40ee098cbaae6f3523ada2d"  # noqa: S105 - a test's own
CHANNEL = "abcdefghijklmnopqrstuvwxyz"
ROOM = "!releases:127.0.0.1"
_TEXT = {"username", "icon_url", "icon_emoji", "text", "mrkdwn", "attachments", "channel", "blocks"}
_ELSEWHERE = "https://slack.com https://chat.googleapis.com https://team.zulipchat.com"


@dataclass(frozen=True)
class Post:
    """A message as it came: ``name`` is what the service called it, ``root`` the message that it answers, empty for none."""

    place: str
    text: str
    root: str
    name: str


@dataclass
class Chats:
    """Slack, Mattermost, Matrix, Google Chat and Zulip on one port, and what each took."""

    port: int = 0
    posts: list[Post] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    taken: int = 0
    late: bool = False  # whether something before them gives up waiting for their answer, which they have taken by then

    @property
    def addresses(self) -> dict[str, str]:
        """The address of a channel of each."""
        token, here = TOKEN, f"127.0.0.1:{self.port}"
        return {
            "slack": f"slack://{token}/%23releases",
            "mattermost": f"mmost://{here}/{CHANNEL}?mode=bot&to=%2B{CHANNEL}",
            "matrix": f"matrix://:{token}@{here}/{ROOM}?v=3&e2ee=no",
            "gchat": "gchat://space/key/secret",
            "zulip": "zulip://release-bot@team/a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6/releases",
        }

    def of(self, place: str) -> list[Post]:
        return [post for post in self.posts if post.place == place]

    def forget(self) -> None:
        """All messages are deleted, as an administrator can."""
        self.posts.clear()

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """What a chat answers."""
        if path.startswith("/v1/spaces/"):
            given = json.loads(body)
            return self._take("gchat", given["text"], json.dumps(given.get("thread")), {"name": path})
        if path == "/api/v1/messages":
            form = dict(parse_qsl(body.decode()))
            return self._take("zulip", form["content"], form["topic"], {"result": "success"})
        return self._of_members(method, path, authorization, body)

    def _of_members(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if authorization != f"Bearer {CHANNEL if path.startswith('/api/v4/') else TOKEN}":
            return 401, {"ok": False, "error": "invalid_auth"}
        if method == "GET" or path.startswith("/_matrix/client/v3/join/"):
            return 200, {"user_id": "@bot:127.0.0.1", "room_id": ROOM}
        given = json.loads(body or b"{}")
        if (method, path) == ("POST", "/api/chat.postMessage"):
            return self._slack(given)
        if (method, path) == ("POST", "/api/v4/posts"):
            return self._mattermost(given)
        if method == "PUT" and (found := re.fullmatch(r"/_matrix/client/v3/rooms/([^/]+)/send/m\.room\.message/[^/]+", path)):
            return self._matrix(unquote(found[1]), given)
        return 404, {"errcode": "M_UNRECOGNIZED"}

    def _slack(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        root = given.pop("thread_ts", "")
        if given.keys() - _TEXT:
            return 200, {"ok": False, "error": "invalid_arguments"}
        if root and root not in {post.name for post in self.of("slack")}:
            return 200, {"ok": False, "error": "thread_not_found"}
        status, said = self._take("slack", json.dumps(given), root, {})
        return status, {"ok": True, "channel": "C1", "ts": said["name"]}

    def _mattermost(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        root = given.pop("root_id", "")
        known = root in {post.name for post in self.of("mattermost")}
        if given.keys() != {"channel_id", "message"} or given["channel_id"] != CHANNEL or (root and not known):
            return 400, {"id": "api.post.create_post.root_id.app_error"}
        status, said = self._take("mattermost", given["message"], root, {})
        return 201 if status == 200 else status, {"id": said["name"], **given}

    def _matrix(self, room: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        relation = given.pop("m.relates_to", None)
        if room != ROOM or given.keys() - {"msgtype", "body", "format", "formatted_body"}:
            return 400, {"errcode": "M_BAD_JSON"}
        root = relation["event_id"] if relation else ""
        shape = {"rel_type": "m.thread", "event_id": root, "is_falling_back": True, "m.in_reply_to": {"event_id": root}}
        if relation and (relation != shape or root not in {post.name for post in self.of("matrix")}):
            return 400, {"errcode": "M_UNKNOWN"}
        status, said = self._take("matrix", given["body"], root, {})
        return status, {"event_id": said["name"]}

    def _take(self, place: str, text: str, root: str, answer: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.taken += 1
        name = f"1700000000.{self.taken:06}" if place == "slack" else f"${place}-{self.taken}"
        self.posts.append(Post(place, text, root, name))
        return 200, {"name": name, **answer}

    def redirected(self, folder: Path) -> Path:
        """A folder for PYTHONPATH with which requests to services on the internet come here."""
        folder.mkdir()
        code = [
            "import requests",
            "_send = requests.adapters.HTTPAdapter.send",
            "def _here(self, request, **more):",
            f"    for address in {_ELSEWHERE.split()!r}:",
            f"        request.url = request.url.replace(address, 'http://127.0.0.1:{self.port}')",
            "    return _send(self, request, **more)",
            "requests.adapters.HTTPAdapter.send = _here",
        ]
        (folder / "sitecustomize.py").write_text("\n".join(code) + "\n")
        return folder


@contextlib.contextmanager
def chats() -> Iterator[Chats]:
    """The chats, while they are needed."""
    there = Chats()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            before = there.taken
            status, said = there.answer(self.command, path, self.headers.get("Authorization") or "", body)
            if there.late and there.taken > before:
                status, said = 504, {}
            if status >= 400 or said.get("ok") is False:
                there.refused.append(f"{self.command} {path}: {said}")
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    there.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield there
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
