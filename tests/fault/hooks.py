"""Who is called with requests' ends and news of demands: a receiver here that keeps what it is sent."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from amber_ray.core.deliveries.signature import signatures

SECRETS = ("whsec_" + "bmV3" * 8, "whsec_" + "b2xk" * 8)


class Message(NamedTuple):
    """One call, whose signature was good: its id, its body, what it was answered."""

    id: str
    body: Any
    status: int


class Hooks:
    """A receiver. While it is `down` it answers 503. `met` counts connections, `heard` are the messages."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.down = False
        self.met = 0
        self.heard: list[Message] = []
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self.port = self._server.server_port
        self.origin = f"http://{host}:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def about(self, request: str) -> list[Message]:
        """What was heard of a request."""
        return [one for one in self.heard if one.body["data"].get("request") == request]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                hooks.met += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                id, stamp = self.headers["webhook-id"], int(self.headers["webhook-timestamp"])
                good = self.headers["webhook-signature"] == signatures(SECRETS, id, stamp, body)
                status = 401 if not good else 503 if hooks.down else 204
                hooks.heard.append(Message(id, json.loads(body), status))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        return Handler
