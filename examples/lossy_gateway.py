"""A gateway that loses a parameter: it forwards each request without ``stop``.

llmengine mock serve --port 8123
python examples/lossy_gateway.py --upstream http://127.0.0.1:8123 --port 8124
llmengine verify --url http://127.0.0.1:8124 --check chat.stop
"""

import json
from argparse import ArgumentParser
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


class Gateway(BaseHTTPRequestHandler):
    """Forwards one request to the upstream server."""

    def __init__(self, upstream, *args):
        self.upstream = upstream
        super().__init__(*args)

    def do_GET(self):
        """Forward a GET."""
        self.forward(None)

    def do_POST(self):
        """Forward a POST, without the field ``stop`` of its JSON body."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            fields = json.loads(body)
            fields.pop("stop", None)
            body = json.dumps(fields).encode()
        except (ValueError, AttributeError):
            pass  # not a JSON object: the upstream server refuses it
        self.forward(body)

    def forward(self, body):
        """Send the request on, and send back the whole answer."""
        kept = ("authorization", "content-type")
        headers = {name: self.headers[name] for name in kept if name in self.headers}
        answer = httpx.request(
            self.command, self.upstream + self.path, content=body, headers=headers
        )
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("content-type", "text/plain"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_):
        """Print nothing about requests."""


if __name__ == "__main__":
    parser = ArgumentParser(description="A gateway that loses a parameter.")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with ThreadingHTTPServer(
        ("127.0.0.1", options.port), partial(Gateway, options.upstream)
    ) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
