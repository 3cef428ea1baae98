"""In a container: an HTTP server on port 8000 that says the path of every request on stdout, once, before it answers."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Sink(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path != "/":
            os.write(1, f"{self.path}\n".encode())  # whole, whoever else writes
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        return


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8000), Sink).serve_forever()
