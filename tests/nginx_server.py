"""nginx itself, on a free port of loopback, for as long as a block lasts; all its files lie in one folder."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tls_server import Authority

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx") is None, reason="nginx is not installed: apt package nginx-light"
)
_CONFIGURATION: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    log_format asked '$request_method $uri $status range=$http_range sent=$body_bytes_sent connection=$connection';
    access_log {folder}/access.log asked;
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    default_type application/octet-stream;
    keepalive_requests 100000;
    server {{
        listen 127.0.0.1:{port} {tls};
        root {files};
        {options}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx that serves the folder `files`."""

    url: str
    files: Path
    folder: Path

    @property
    def asked(self) -> list[str]:
        """The lines of its log."""
        return (self.folder / "access.log").read_text().splitlines()


@contextmanager
def nginx(
    folder: Path,
    *,
    password: tuple[str, str] | None = None,
    authority: Authority | None = None,
    rate: str = "",
    redirect: str = "",
    gzip: bool = False,
) -> Iterator[Nginx]:
    """nginx with its files below `folder`; what it serves is `folder/files`.

    `password` is a user and a password for all of it; `rate` is nginx's limit for one connection, `100k`; `redirect` is
    where everything below `/moved/` is sent to.
    """
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    options = []
    if password:
        (folder / "htpasswd").write_text(f"{password[0]}:{_hashed(password[1])}\n")
        options.append(f'auth_basic "models"; auth_basic_user_file {folder}/htpasswd;')
    if authority:
        options.append(f"ssl_certificate {authority.server}; ssl_certificate_key {authority.server};")
    if rate:
        options.append(f"limit_rate {rate};")
    if redirect:
        options.append(f"location /moved/ {{ return 302 {redirect}; }}")
    if gzip:
        options.append("gzip on; gzip_min_length 1; gzip_types *; gzip_http_version 1.0;")
    for _ in range(5):
        port = _free_port()
        (folder / "nginx.conf").write_text(
            _CONFIGURATION.format(
                folder=folder, files=files, port=port, tls="ssl" if authority else "", options="\n".join(options)
            )
        )
        command = ["nginx", "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                if _is_up(process, port):
                    yield Nginx(f"http{'s' if authority else ''}://127.0.0.1:{port}", files, folder)
                    return
            finally:
                process.terminate()
    pytest.fail(f"nginx does not start: {(folder / 'error.log').read_text()}")


def _hashed(password: str) -> str:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it hashes nginx's passwords")
    command = ["openssl", "passwd", "-apr1", "-stdin"]
    return subprocess.run(command, input=password, capture_output=True, text=True, check=True).stdout.strip()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _is_up(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Whether it answers; not when somebody else took the port meanwhile."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
            continue
        time.sleep(0.05)
        return process.poll() is None
    return False
