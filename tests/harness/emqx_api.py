"""EMQX's API, scripted: EMQX itself can't be had here. It answers as the manuals of 4.4 and 5.8 say."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

KEY = "key:geheim-4711"

Script = dict[str, tuple[int, object]]  # path -> status, body


class EmqxApi(HTTPServer):
    """Answers each path as `script` says; an unknown path gets 404 and a page, as EMQX's dashboard does."""

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        with self:
            thread.start()
            try:
                yield
            finally:
                self.shutdown()
                thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: EmqxApi

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        login = base64.b64encode(KEY.encode()).decode()
        if self.headers["Authorization"] != f"Basic {login}":
            status, body = 401, {"code": "BAD_API_KEY_OR_SECRET", "message": "Check api_key/api_secret"}
        else:
            status, body = self.server.script.get(self.path, (404, "<html>"))  # type: ignore[assignment]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass
