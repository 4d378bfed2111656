"""``credential-pipeline dashboard``: the server, and where it may listen."""

from __future__ import annotations

import ipaddress
import logging
import resource
import socket

import uvicorn

from pipeline.dashboard.app import create_app
from pipeline.dashboard.impatience import ImpatientProtocol
from pipeline.errors import SettingsError
from pipeline.settings import Settings

logger = logging.getLogger(__name__)

#: How long open answers may take when the server is told to end, in seconds.
GRACE_SECONDS = 5

#: Connections that wait to be taken. asyncio tries, and logs, as many at once when there are no more files.
BACKLOG = 64

#: More open answers than this are refused with 503.
MAX_CONCURRENT = 500


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises `SettingsError`: to be reached from elsewhere, a password file is needed; or the address
    can not be listened at.
    """
    loopback = is_loopback(host)
    if not loopback and settings.dashboard_password_file is None:
        raise SettingsError(
            f"wrong settings: DASHBOARD_PASSWORD_FILE: is required to listen on {host}, "
            "which others can reach; credential-pipeline dashboard-user makes one"
        )
    app = create_app(settings, loopback=loopback)
    _allow_many_files()
    with _listening(host, port) as listener:
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # the line below says it all
        logger.info("the dashboard is at http://%s", _address(listener))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_SECONDS,
            http=ImpatientProtocol,
            backlog=BACKLOG,
            limit_concurrency=MAX_CONCURRENT,
            proxy_headers=True,
            forwarded_allow_ips=settings.dashboard_trusted_proxies,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _allow_many_files() -> None:
    """Each connection is one; the usual limit of 1024 is for programs that use `select`."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches ``host``, an address or a name; a name may mean several."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise SettingsError(f"wrong settings: --host: {host}: {exc.strerror}") from exc
    except UnicodeError as exc:  # IDNA: an empty or a too long label
        raise SettingsError(f"wrong settings: --host: {host!r} is no name of a host") from exc
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6() and host == "::"
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as exc:
        raise SettingsError(f"wrong settings: --host {host} --port {port}: {exc.strerror}") from exc
    # asyncio does so for sockets that it makes itself: without it each answer takes 40 ms more.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
