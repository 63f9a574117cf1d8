"""A server of ranges of files that is faster than any S3 server: what a client reaches is then the client's own doing.

nginx where it is installed, else Python's own HTTP server with sendfile. To an S3 client it looks like a bucket
of its folder's name that cannot be written or listed.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BUCKET = "files"
NOTHING = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated></ListBucketResult>'
START_S = 20

_NGINX = """
daemon off; worker_processes 1; pid {place}/pid; error_log {place}/log;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c;
  uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;
  server {{
    listen 127.0.0.1:{port}; root {root};
    location = /{bucket} {{ default_type application/xml; return 200 '{nothing}'; }}
  }}
}}
"""


class Files(BaseHTTPRequestHandler):
    """Ranges of the files below the working directory."""

    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def do_GET(self) -> None:
        path = Path(self.path.partition("?")[0].lstrip("/"))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if path == Path(BUCKET):
            self._head(200, len(NOTHING))
            self.wfile.write(NOTHING.encode())
        elif not path.is_file() or wanted is None:
            self._head(404, 0)
        else:
            with path.open("rb") as file:
                total = os.fstat(file.fileno()).st_size
                begin, end = int(wanted[1]), min(int(wanted[2]) + 1, total)
                self._head(206, end - begin, f"Content-Range: bytes {begin}-{end - 1}/{total}\r\n")
                while begin < end:
                    begin += os.sendfile(self.connection.fileno(), file.fileno(), begin, end - begin)

    def _head(self, status: int, length: int, more: str = "") -> None:
        dates = 'ETag: "0"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n'
        self.wfile.write(f"HTTP/1.1 {status} X\r\n{dates}Content-Length: {length}\r\n{more}\r\n".encode())


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, int]]:
    """Which server, and its port on the loopback, while it serves what is below ``root``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nginx = shutil.which("nginx")
    with tempfile.TemporaryDirectory(prefix="ttft-nginx-") as place:
        if nginx:
            settings = Path(place) / "nginx.conf"
            settings.write_text(_NGINX.format(place=place, port=port, root=root, bucket=BUCKET, nothing=NOTHING))
            command = [nginx, "-c", str(settings), "-p", place]
        else:
            command = [sys.executable, __file__, str(port)]
        process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL)
        try:
            _wait_for(process, port)
            yield ("nginx" if nginx else "Python's HTTP server"), port
        finally:
            process.terminate()
            process.wait()


def _wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise SystemExit(f"the file server did not start (exit status {process.poll()})")


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Files).serve_forever()
