"""The guard: nothing that Python code asks for leaves this machine.

Owns the refusal of connections, lookups and datagrams beyond loopback, and their count.
* Off until a program enables it; then on until the process ends, and never wider than when it was enabled.
* Names are judged before they are resolved: a lookup is already a packet.
* What is judged is what C will read: a subclass of tuple or str that shows another face is looked through.
* Only sockets of the internet's and of this machine's own families are made: no frames past the IP stack.
* It sees Python, not native code, and it stops mistakes, not malice. Left open: who digs out the C type from under
  `socket.socket` (its base class, or a reference taken before) can still make C look up a name, which is a packet,
  before the connection is refused; so can ctypes, and a descriptor of another family that came from elsewhere can be
  written to. `kernel_isolated` says whether the kernel holds the door as well.
"""

import _socket
import ipaddress
import operator
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, Final, NoReturn, SupportsIndex

from manifests.errors import NetworkRefusedError, listing

REMEMBERED_TARGETS: Final = 20

_INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})
# These end inside this machine's kernel.
_LOCAL: Final = frozenset(
    getattr(socket, name) for name in ("AF_UNIX", "AF_NETLINK", "AF_ALG") if hasattr(socket, name)
)
_FAMILY_IS_THE_DESCRIPTORS: Final = -1
# Methods that resolve a host name, and where their arguments have the address.
_RESOLVING_METHODS: Final = {"connect": 0, "connect_ex": 0, "bind": 0, "sendto": -1, "sendmsg": 3}
# Its methods resolve before they are audited.
_C_TYPE: Final = _socket.socket
# As the C type has it: a subclass may call itself of any family.
_FAMILY: Final = vars(_C_TYPE)["family"]
_INTERFACE_IS_UP: Final = 1
_ASK_INTERFACE_FLAGS: Final = 0x8913
_LOOPBACK_INTERFACE: Final = "lo"


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """Whether the guard is on, how much it refused, and the last targets it refused (at most `REMEMBERED_TARGETS`)."""

    enabled: bool
    refused: int
    targets: tuple[str, ...]


class _Guard:
    """The one guard of this process."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._enabled = False
        self._allowed: frozenset[str] = frozenset()
        self._refused = 0
        self._targets: deque[str] = deque(maxlen=REMEMBERED_TARGETS)

    def enable(self, allowed: frozenset[str]) -> None:
        with self._lock:
            if self._enabled:
                if wider := allowed - self._allowed:
                    raise NetworkRefusedError(
                        f"the guard is on already and lets nobody else through: {listing(sorted(wider))}",
                        hint="peers are named when the guard is enabled first",
                    )
                return
            self._allowed = allowed
            self._enabled = True
            sys.addaudithook(self._hook())
            _guard_types(self._judge_call)

    def status(self) -> GuardStatus:
        with self._lock:
            return GuardStatus(self._enabled, self._refused, tuple(self._targets))

    def _hook(self) -> Callable[[str, tuple[Any, ...]], None]:
        judges: dict[str, Callable[..., None]] = {
            "socket.__new__": self._judge_family,
            "socket.connect": self._judge_target,
            "socket.sendto": self._judge_target,
            "socket.sendmsg": self._judge_target,
            "socket.getaddrinfo": self._judge_lookup,
            "socket.gethostbyname": self._judge_lookup,
            "socket.gethostbyaddr": self._judge_lookup,
            "socket.getnameinfo": self._judge_reverse_lookup,
        }
        find = judges.get

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            judge = find(event)
            if judge is not None:
                judge(*arguments)

        return hook

    def _judge_family(self, _asking: socket.socket, family: int, *_: object) -> None:
        if family != _FAMILY_IS_THE_DESCRIPTORS and family not in _INTERNET and family not in _LOCAL:
            self._refuse(f"a socket of address family {family}")

    def _judge_target(self, asking: socket.socket, address: object) -> None:
        family = _FAMILY.__get__(asking)
        if address is None or family in _LOCAL:
            return  # a connected socket was judged when it was connected
        if family not in _INTERNET or not isinstance(address, tuple):
            self._refuse(f"address family {family}")
        host, port = _as_c_reads(address)[:2]
        host = _text(host)
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if not _is_loopback(host) and peer not in self._allowed:
            self._refuse(peer)

    def _judge_lookup(self, host: object, *_: object) -> None:
        name = _text(host)
        if not (name == "" or _is_loopback(name) or _is_any(name) or name in self._allowed_hosts()):
            self._refuse(f"lookup of {name}")

    def _judge_reverse_lookup(self, address: tuple[Any, ...]) -> None:
        self._judge_lookup(_as_c_reads(address)[0])

    def _judge_call(self, method: str, asking: socket.socket, address: object) -> None:
        """A method that would resolve a name by itself, unaudited: judge the name first."""
        if _FAMILY.__get__(asking) not in _INTERNET or not isinstance(address, tuple) or len(address) < 2:
            return  # C says what is wrong with it
        if method != "bind":
            self._judge_target(asking, address)
        elif not _is_address(_text(address[0])):
            self._judge_lookup(address[0])

    def _allowed_hosts(self) -> frozenset[str]:
        return frozenset(peer.rpartition(":")[0].strip("[]") for peer in self._allowed)

    def _refuse(self, target: str) -> NoReturn:
        with self._lock:
            self._refused += 1
            self._targets.append(target)
        raise NetworkRefusedError(
            f"refused: {target} is beyond this machine", hint="this process was told to stay offline"
        )


_GUARD: Final = _Guard()


def enable(*, allow: Iterable[str] = ()) -> None:
    """Refuse whatever would leave this machine, until the process ends.

    `allow` names peers that are let through, as `IP:PORT` or `[IP]:PORT`: a camera, say. Enabling again is nothing,
    unless it names other peers: then `NetworkRefusedError`, which is also what refused calls raise.
    """
    _GUARD.enable(frozenset(allow))


def status() -> GuardStatus:
    """What the guard has seen so far."""
    return _GUARD.status()


def kernel_isolated() -> bool:
    """Whether the kernel offers this process no way out: no interface up but loopback, and no route beyond it.

    A filter on an interface that is up (a firewall, systemd's `IPAddressDeny`) cannot be seen from here and is not
    counted. False where it cannot be told.
    """
    if sys.platform != "linux":
        return False
    names = {name for _, name in socket.if_nameindex()} - {_LOOPBACK_INTERFACE}
    try:
        return not any(_is_up(name) for name in names) and not _routed_interfaces() - {_LOOPBACK_INTERFACE}
    except OSError:
        return False


def _is_up(interface: str) -> bool:
    import fcntl  # noqa: PLC0415 - not on every platform

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, _ASK_INTERFACE_FLAGS, interface.encode()[:15].ljust(32, b"\0"))
    return bool(int.from_bytes(answer[16:18], sys.byteorder) & _INTERFACE_IS_UP)


def _routed_interfaces() -> set[str]:
    """The interfaces that the kernel's routing tables name: first column for IPv4, last for IPv6."""
    ipv4 = Path("/proc/self/net/route").read_text(encoding="ascii").splitlines()[1:]
    ipv6_table = Path("/proc/self/net/ipv6_route")
    ipv6 = ipv6_table.read_text(encoding="ascii").splitlines() if ipv6_table.exists() else []
    return {line.split()[0] for line in ipv4 if line.strip()} | {line.split()[-1] for line in ipv6 if line.strip()}


def _guard_types(judge: Callable[[str, socket.socket, object], None]) -> None:
    """Guard the methods of `socket.socket`, and put guarded types under the names that the C type has."""
    present = {
        name: place for name, place in _RESOLVING_METHODS.items() if hasattr(_C_TYPE, name)
    }  # Windows: no sendmsg
    guarded = {name: _judging_before_resolving(name, place, judge) for name, place in present.items()}
    for name, method in guarded.items():
        setattr(socket.socket, name, method)
    # `socket.socket.__init__` calls `_socket.socket.__init__` by that name: it cannot be `socket.socket` itself.
    names = {(_socket, "socket"): type("socket", (_C_TYPE,), guarded)}
    names |= {(module, "SocketType"): socket.socket for module in (_socket, socket)}
    for (module, name), guarded_type in names.items():
        setattr(module, name, guarded_type)


def _judging_before_resolving(
    name: str, place: int, judge: Callable[[str, socket.socket, object], None]
) -> Callable[..., Any]:
    """A socket's method, judged first: the C code resolves a host name before it raises its audit event.

    `place` is where the arguments have the address. C is given what was judged, not what it was made from.
    """
    original = getattr(_C_TYPE, name)

    def guarded(self: socket.socket, *arguments: Any) -> Any:
        given = list(arguments)
        if place < len(given) and given and isinstance(given[place], tuple):
            given[place] = _as_c_reads(given[place])
            judge(name, self, given[place])
        return original(self, *given)

    return guarded


def _as_c_reads(address: tuple[Any, ...]) -> tuple[Any, ...]:
    """An address as plain values: what a subclass overrides means nothing to C."""
    return tuple(_plain(value) for value in tuple.__iter__(address))


def _plain(value: object) -> object:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytearray):
        return bytes(memoryview(value))
    if isinstance(value, bytes):
        return bytes.__getitem__(value, slice(None))
    if isinstance(value, SupportsIndex):
        return int.__index__(operator.index(value))
    return value


def _text(host: object) -> str:
    if isinstance(host, str):
        return str.__str__(host)
    return bytes.decode(bytes(memoryview(host)), "utf-8", "replace") if isinstance(host, bytes | bytearray) else ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_address(host: str) -> bool:
    return not host or _address(host) is not None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.lower().rstrip(".") == "localhost" if address is None else address.is_loopback


def _is_any(host: str) -> bool:
    """`0.0.0.0` and `::` are what a server listens on; they name no other machine."""
    address = _address(host)
    return address is not None and address.is_unspecified
