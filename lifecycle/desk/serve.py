"""The desk's server: where it listens, under which addresses it answers, and whom it lets know."""

import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import uvicorn

from lifecycle.desk.app import application
from lifecycle.desk.folder import Desk, hold
from lifecycle.desk.people import OWNER
from lifecycle.errors import ConfigError, InputError

LOOPBACK = "127.0.0.1"
RISK = (
    "Whoever can read that network can read the links, questions and votes: there is no encryption here. Forward the "
    "port over ssh, or put a proxy with TLS before it and name it with --public-url. If you know better, add --expose."
)


def serve(
    desk: Desk,
    *,
    annotators: int,
    host: str = LOOPBACK,
    port: int = 8790,
    public_url: str | None = None,
    expose: bool = False,
    tell: Callable[[str], object] = print,
) -> None:
    """Serve until told to stop. Every link is said once, when the server listens."""
    check_exposure(host, public_url=public_url, expose=expose)
    with hold(desk.folder), listening(host, port) as listener:
        addresses = origins(host, listener.getsockname()[1], public_url)
        desk.votes.rows()  # a database that cannot be read stops the server before anybody is invited
        for person in desk.people.at_least(annotators):
            if not person.revoked:
                what = "summary" if person.name == OWNER else person.name
                tell(f"{what:14} {addresses[0]}/a/{person.token}")
        config = uvicorn.Config(
            application(desk, origins=addresses),
            log_level="warning",
            access_log=False,  # an address holds a token
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=3,
            limit_concurrency=200,
        )
        uvicorn.Server(config).run(sockets=[listener])


def check_exposure(host: str, *, public_url: str | None, expose: bool) -> None:
    """Raise ConfigError where others could listen in and nobody said that this is wanted."""
    if not _is_loopback(host) and not expose:
        raise ConfigError(f"expected a loopback address to serve on, found {host}. {RISK}")
    if host in ("0.0.0.0", "::") and public_url is None:
        raise ConfigError(f"expected the one name people use for this desk, found --host {host}. Give --public-url.")
    if public_url is not None:
        parts = urlsplit(public_url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
            raise ConfigError(f"expected --public-url like https://desk.example.org, found {public_url!r}.")


def origins(host: str, port: int, public_url: str | None) -> list[str]:
    """The addresses the desk answers to, the one to print first. Nothing else that leads here is one of its names."""
    names = [host, LOOPBACK, "localhost"] if _is_loopback(host) else [host]
    local = [f"http://{f'[{name}]' if ':' in name else name}:{port}" for name in dict.fromkeys(names)]
    return local if public_url is None else [public_url.rstrip("/").lower(), *local]


def listening(host: str, port: int) -> socket.socket:
    """A socket on that address; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(f"expected to listen on {host}:{port}, found: {error}. Use another --port.") from error
    listener.listen(128)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
