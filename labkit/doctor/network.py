"""Ports of loopback, which a lab lives on, and proxies, which programs are fetched through.

A proxy's password is never shown.  Nothing but the proxy itself is spoken to, and to it
nothing is said.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from labkit import host, launch
from labkit.doctor.finding import Remark, note, ok, problem
from labkit.doctor.patience import Asked
from labkit.errors import NodeError
from labkit.node.network.nodeports import FIRST, LAST, PortBlock
from labkit.paths import LabPaths

_ANSWER = 1.2  # seconds that a proxy may take to be there
_FEW_PORTS = 2000
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("127.0.0.1", "localhost")
_SILENT = (
    f"and there is no answer within {_ANSWER:g} s",
    "Correct it, or `unset {names}`: nothing can be fetched that way.",
)
ROUTES = ("http_proxy", "https_proxy", "all_proxy")


def ports(settings: Path = Path("/proc/sys")) -> list[Remark]:
    """Whether a port of loopback can be had, and a row of them for a lab's NodePorts."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=_ANSWER).close()
    except OSError as error:
        fix = "Bring loopback up (`ip link set lo up`), or allow this container to use it."
        return [problem(f"127.0.0.1 cannot be reached: {error.strerror or 'no answer'}", fix)]
    try:
        block = PortBlock.reserve()
    except NodeError as error:
        return [problem(f"{error.what}: {error.seen}", error.todo)]
    block.release()
    found = host.kernel_setting("net/ipv4/ip_local_port_range", settings)
    if found is not None and len(found) == 2 and found[1] - found[0] < _FEW_PORTS:
        seen = f"ports for connections: only {found[0]} to {found[1]}"
        fix = (
            "Whoever is root can widen it: `sysctl -w net.ipv4.ip_local_port_range='32768 60999'`."
        )
        return [note(seen, fix)]
    free = f"a lab's NodePorts would be {block.range} of {FIRST}-{LAST}"
    return [ok(f"127.0.0.1 can be used; {free}")]


def proxies(env: Mapping[str, str] = os.environ) -> list[Remark]:
    """Whether the proxies that ``env`` names are usable, and loopback goes past them."""
    set_here = {
        name: env[name] for route in ROUTES for name in (route, route.upper()) if env.get(name)
    }
    labs = _of_labs()
    yours = {name: value for name, value in set_here.items() if value not in labs}
    remarks = [
        _of_a_lab(labs[value]) for value in dict.fromkeys(set_here.values()) if value in labs
    ]
    asked = [(value, Asked(partial(_look, value))) for value in dict.fromkeys(yours.values())]
    for value, answer in asked:
        names = [name for name in yours if yours[name] == value]
        try:
            wrong, fix = answer.wait(_ANSWER)
        except TimeoutError:  # its name is looked up in vain
            wrong, fix = _SILENT
        if wrong:
            seen = f"{' and '.join(names)}: {mask(value)}, {wrong}"
            remarks.append(note(seen, fix.format(names=" ".join(names))))
    if yours:
        remarks += _differences(yours)
        remarks += _past_loopback(env)
        remarks.append(ok(f"{', '.join(yours)}: used to fetch programs and packages"))
    return remarks or [ok("none set")]


def _of_labs() -> dict[str, str]:
    """The forward proxies of labs, and whose each is: in a lab's terminal one is set."""
    found = {}
    for name in launch.names():
        try:
            found[LabPaths.of(name).proxy_url.read_text().strip()] = name
        except OSError:
            continue
    return found


def _of_a_lab(name: str) -> Remark:
    if launch.running(name) is not None:
        return ok(f"the lab {name}'s own, for plain http to its Services")
    seen = f"http_proxy is that of the lab {name}, which does not run"
    return note(seen, f'`labkit up --name {name}` and `eval "$(labkit env)"`, or a new terminal.')


def _look(value: str) -> tuple[str, str]:
    """What is wrong with the proxy ``value``, and what to do; two times "" if it is there."""
    if "://" not in value:
        return "which has no scheme", "Write it as http://HOST:PORT (http also for https_proxy)."
    try:
        url = urlsplit(value)
        host_name, port = url.hostname, url.port or _DEFAULT_PORTS.get(url.scheme, 1080)
    except ValueError:
        host_name, port = None, 0
    if not host_name:
        return "which is no address", "Write it as http://HOST:PORT."
    try:
        socket.create_connection((host_name, port), timeout=_ANSWER).close()
    except TimeoutError:
        return _SILENT
    except OSError as error:
        return f"and nothing answers there ({error.strerror or 'no such host'})", _SILENT[1]
    return "", ""


def _differences(yours: Mapping[str, str]) -> list[Remark]:
    """Programs differ in which spelling they read."""
    remarks = []
    for route in ROUTES:
        lower, upper = yours.get(route), yours.get(route.upper())
        if lower and upper and lower != upper:
            fix = "Set both to the same: some programs read the one, some the other."
            remarks.append(note(f"{route} and {route.upper()} differ", fix))
    return remarks


def _past_loopback(env: Mapping[str, str]) -> list[Remark]:
    excepted = env.get("no_proxy") or env.get("NO_PROXY") or ""
    if all(is_excepted(name, excepted) for name in _LOOPBACK):
        return []
    value = ",".join([*([excepted] if excepted else []), *_LOOPBACK])
    seen = "loopback is not excepted from the proxy, and all of a lab is on loopback"
    fix = (
        f"`export NO_PROXY={value} no_proxy={value}` (`labkit env` and notebooks do it themselves)."
    )
    return [note(seen, fix)]


def is_excepted(name: str, excepted: str) -> bool:
    """Whether the host ``name`` is reached without a proxy, ``excepted`` being NO_PROXY.

    Its parts are names, which stand for what is below them too, addresses and their ranges.
    """
    for part in (part.strip().lower().lstrip(".") for part in excepted.split(",")):
        if part == "*" or name == part or (part and name.endswith(f".{part}")):
            return True
        try:
            if ipaddress.ip_address(name) in ipaddress.ip_network(part, strict=False):
                return True
        except ValueError:  # a name, not an address
            continue
    return False


def mask(value: str) -> str:
    """An address without the user and password in it."""
    scheme, separator, rest = value.rpartition("://")
    secret, _, place = rest.rpartition("@")
    return f"{scheme}{separator}{'***@' if secret else ''}{place}"
