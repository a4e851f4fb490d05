"""The guard, in processes of its own: it stays on until a process ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PREAMBLE = """
import json, socket
from runtime import guard
from manifests.errors import NetworkRefusedError
tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
def outcome(call):
    try:
        call()
    except NetworkRefusedError:
        return "refused"
    except OSError:
        return "allowed"  # and then failed by itself: nobody listens
    return "allowed"
class TwoFaced(tuple):
    def __getitem__(self, place):
        return ('127.0.0.1', 80)[place]
    def __iter__(self):
        return iter(('127.0.0.1', 80))
class TwoFacedName(str):
    def __str__(self):
        return 'localhost'
class TwoFacedSocket(socket.socket):
    family = socket.AF_UNIX
"""

REFUSED = {
    "connecting": "socket.socket().connect(('192.0.2.1', 80))",
    "connecting without raising": "socket.socket().connect_ex(('192.0.2.1', 80))",
    "connecting by name": "socket.socket().connect(('host.invalid', 80))",
    "connecting over IPv6": "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
    "connecting over IPv6 to an IPv4 address": "socket.socket(socket.AF_INET6).connect(('::ffff:192.0.2.1', 80))",
    "a library's connection": "socket.create_connection(('192.0.2.1', 80))",
    "a datagram": "socket.socket(type=udp).sendto(b'x', ('192.0.2.1', 53))",
    "a datagram with flags": "socket.socket(type=udp).sendto(b'x', 0, ('192.0.2.1', 53))",
    "a datagram by name": "socket.socket(type=udp).sendto(b'x', ('host.invalid', 53))",
    "a message": "socket.socket(type=udp).sendmsg([b'x'], [], 0, ('192.0.2.1', 53))",
    "the C type underneath": "__import__('_socket').socket().connect(('192.0.2.1', 80))",
    "the C type, by name": "__import__('_socket').socket().connect(('host.invalid', 80))",
    "the C type, without raising": "__import__('_socket').socket().connect_ex(('host.invalid', 80))",
    "the C type's datagram": "__import__('_socket').socket(2, udp).sendto(b'x', ('host.invalid', 53))",
    "the C type's message": "__import__('_socket').socket(2, udp).sendmsg([b'x'], [], 0, ('host.invalid', 53))",
    "the C type's binding": "__import__('_socket').socket().bind(('host.invalid', 0))",
    "the C type's method": "__import__('_socket').socket.connect(socket.socket(), ('host.invalid', 80))",
    "another name of it": "socket.SocketType().connect(('host.invalid', 80))",
    "and another": "__import__('_socket').SocketType().connect(('host.invalid', 80))",
    "frames": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "a family of neither kind": "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
    "a tuple with two faces": "socket.socket().connect(TwoFaced(('192.0.2.1', 80)))",
    "a tuple with two faces, by name": "socket.socket().connect(TwoFaced(('host.invalid', 80)))",
    "a name with two faces": "socket.socket().connect((TwoFacedName('192.0.2.1'), 80))",
    "a lookup of a name with two faces": "socket.getaddrinfo(TwoFacedName('host.invalid'), 80)",
    "a socket with two faces": "TwoFacedSocket().connect(('192.0.2.1', 80))",
    "a lookup": "socket.getaddrinfo('host.invalid', 80)",
    "a lookup of bytes": "socket.getaddrinfo(b'host.invalid', 80)",
    "an old lookup": "socket.gethostbyname('host.invalid')",
    "an old lookup of more": "socket.gethostbyname_ex('host.invalid')",
    "a reverse lookup": "socket.gethostbyaddr('192.0.2.1')",
    "a reverse lookup by address": "socket.getnameinfo(('192.0.2.1', 80), 0)",
    "binding to a name": "socket.socket().bind(('host.invalid', 0))",
    "a host that only looks like loopback": "socket.getaddrinfo('127.0.0.1.host.invalid', 80)",
    "an http client": "__import__('http.client').client.HTTPConnection('192.0.2.1').request('GET', '/')",
}

ALLOWED = {
    "connecting to loopback": "socket.socket().connect(('127.0.0.1', 1))",
    "connecting to any of loopback": "socket.socket().connect(('127.9.9.9', 1))",
    "connecting to localhost": "socket.create_connection(('localhost', 1))",
    "connecting over IPv6": "socket.socket(socket.AF_INET6).connect(('::1', 1))",
    "a datagram": "socket.socket(type=udp).sendto(b'x', ('127.0.0.1', 1))",
    "a message with ancillary bytes": "socket.socketpair()[0].sendmsg([b'x'], ((1, 1, b'x'),))",
    "the C type": "__import__('_socket').socket().connect(('127.0.0.1', 1))",
    "a socket from a descriptor": "socket.socket(fileno=socket.socket().detach())",
    "a pair": "socket.socketpair()",
    "a unix socket": "socket.socket(socket.AF_UNIX).connect('/no/such/socket')",
    "looking up localhost": "socket.getaddrinfo('localhost', 80)",
    "looking up an address to listen on": "socket.getaddrinfo(None, 0, flags=socket.AI_PASSIVE)",
    "looking up every address": "socket.getaddrinfo('0.0.0.0', 0)",
    "binding to loopback": "socket.socket().bind(('127.0.0.1', 0))",
    "binding to every address": "socket.socket().bind(('', 0))",
    "a lookup for loopback": "socket.getnameinfo(('127.0.0.1', 80), socket.NI_NUMERICHOST)",
}


def python(code: str) -> Any:
    """What a fresh process prints as JSON."""
    finished = subprocess.run(
        [sys.executable, "-c", PREAMBLE + code], check=True, capture_output=True, text=True, timeout=60
    )
    return json.loads(finished.stdout)


def outcomes(calls: dict[str, str]) -> dict[str, str]:
    table = ", ".join(f"{name!r}: outcome(lambda: {call})" for name, call in calls.items())
    return dict(python(f"guard.enable()\nprint(json.dumps({{{table}}}))"))


def test_everything_that_would_leave_the_machine_is_refused() -> None:
    assert outcomes(REFUSED) == dict.fromkeys(REFUSED, "refused")


def test_everything_on_loopback_is_let_through() -> None:
    assert outcomes(ALLOWED) == dict.fromkeys(ALLOWED, "allowed")


def test_importing_the_guard_enables_nothing() -> None:
    code = "print(json.dumps([guard.status().enabled, outcome(lambda: socket.getaddrinfo('192.0.2.1', 80))]))"
    assert python(code) == [False, "allowed"]


def test_what_is_refused_is_counted_once_and_the_last_targets_are_remembered() -> None:
    code = """
guard.enable()
for number in range(30):
    outcome(lambda: socket.socket().connect(("192.0.2.1", number)))
    outcome(lambda: socket.socket().connect(("127.0.0.1", 1)))
outcome(lambda: socket.getaddrinfo("host.invalid", 80))
status = guard.status()
print(json.dumps([status.enabled, status.refused, status.targets]))
"""
    enabled, refused, targets = python(code)
    assert (enabled, refused, len(targets)) == (True, 31, 20)
    assert targets[-2:] == ["192.0.2.1:29", "lookup of host.invalid"]


def test_an_allowed_peer_is_let_through_on_its_port_only() -> None:
    code = """
guard.enable(allow=["127.0.0.1:9", "192.0.2.7:554"])
def reach(address):
    asking = socket.socket(type=udp)  # connecting a datagram socket sends nothing
    return outcome(lambda: asking.connect(address))
print(json.dumps([reach(("192.0.2.7", 554)), reach(("192.0.2.7", 80)), reach(("192.0.2.8", 554))]))
"""
    assert python(code) == ["allowed", "refused", "refused"]


def test_the_guard_stays_on_and_never_becomes_wider() -> None:
    code = """
guard.enable(allow=["192.0.2.7:554"])
guard.enable()
guard.enable(allow=["192.0.2.7:554"])
wider = outcome(lambda: guard.enable(allow=["192.0.2.8:554"]))
print(json.dumps([wider, outcome(lambda: socket.socket().connect(("192.0.2.8", 554)))]))
"""
    assert python(code) == ["refused", "refused"]


def test_a_platform_that_lacks_a_method_is_guarded_all_the_same() -> None:
    code = """
guard._RESOLVING_METHODS["no_such_method"] = 0  # as sendmsg is none on Windows
guard.enable()
print(json.dumps(outcome(lambda: socket.socket().connect(("host.invalid", 80)))))
"""
    assert python(code) == "refused"


def test_what_the_c_type_is_refused_is_counted() -> None:
    code = """
import _socket
guard.enable()
outcome(lambda: _socket.socket().connect(("host.invalid", 80)))
outcome(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
print(json.dumps([guard.status().refused, guard.status().targets]))
"""
    assert python(code) == [2, ["host.invalid:80", "a socket of address family 17"]]


def test_a_socket_is_still_one_of_its_type() -> None:
    code = "guard.enable()\nprint(json.dumps(isinstance(socket.socket(), socket.SocketType)))"
    assert python(code) is True


def test_threads_are_guarded_and_counted_too() -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
guard.enable()
with ThreadPoolExecutor(8) as threads:
    list(threads.map(lambda _: outcome(lambda: socket.socket().connect(("192.0.2.1", 80))), range(200)))
print(json.dumps(guard.status().refused))
"""
    assert python(code) == 200


def test_a_server_on_loopback_works_under_the_guard() -> None:
    code = """
import http.client, http.server, threading
guard.enable()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = http.client.HTTPConnection("localhost", server.server_port)
client.request("HEAD", "/no-such-file")
print(json.dumps([client.getresponse().status, guard.status().refused]))
server.shutdown()
"""
    assert python(code) == [404, 0]


def test_a_network_namespace_of_its_own_is_isolated_by_the_kernel() -> None:
    code = PREAMBLE + "print(json.dumps(guard.kernel_isolated()))"
    finished = subprocess.run(
        ["unshare", "--map-root-user", "--net", sys.executable, "-c", code],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if finished.returncode:
        pytest.skip(f"this machine allows no network namespace: {finished.stderr.strip()}")
    assert json.loads(finished.stdout) is True


def test_a_route_beyond_loopback_is_no_isolation() -> None:
    table = Path("/proc/net/route").read_text().splitlines()[1:]
    if all(line.startswith("lo") for line in table):
        pytest.skip("this machine has no route beyond loopback")
    assert python("print(json.dumps(guard.kernel_isolated()))") is False
