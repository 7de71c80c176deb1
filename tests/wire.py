"""A server that sends exactly the bytes a test wants, with or without TLS, and notes the bytes it was sent."""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"


@dataclass
class Wire:
    """What a running server is known by, and what it has seen."""

    url: str
    received: list[bytes] = field(default_factory=list)
    connections: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)


def answer(data: bytes, *, interval: float = 0.0, start: int = 0) -> Callable[[socket.socket, Wire], None]:
    """Return a handler that reads one request and sends these bytes; with an interval, those after ``start`` singly."""

    def handle(connection: socket.socket, wire: Wire) -> None:
        wire.received.append(connection.recv(65536))
        connection.sendall(data if not interval else data[:start])
        for index in range(start, len(data) if interval else start):
            if wire.stopped.wait(interval):
                return
            connection.sendall(data[index : index + 1])

    return handle


def whole(body: bytes, *headers: bytes) -> bytes:
    """Return the bytes of an answer with status 200."""
    lines = (JSON_HEAD, *(header + b"\r\n" for header in headers), b"Content-Length: %d\r\n\r\n" % len(body))
    return b"".join(lines) + body


def recording(data: bytes) -> Callable[[socket.socket, Wire], None]:
    """Return a handler that reads one request to the end of its body and sends these bytes."""

    def handle(connection: socket.socket, wire: Wire) -> None:
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        while length and len(body) < int(length[1]):
            body += connection.recv(65536)
        wire.received.append(head + b"\r\n\r\n" + body)
        connection.sendall(data)

    return handle


def silence(connection: socket.socket, wire: Wire) -> None:
    """Read one request and never answer."""
    wire.received.append(connection.recv(65536))
    wire.stopped.wait()


@contextmanager
def serving(
    handle: Callable[[socket.socket, Wire], None], *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[Wire]:
    """Serve every connection with ``handle``, each on its own thread, until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.02)
    wire = Wire(f"{'https' if tls else 'http'}://{host}:{listener.getsockname()[1]}")
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        connection.settimeout(5)
        with suppress(OSError):
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection:
                handle(connection, wire)
        connection.close()

    def accept() -> None:
        while not wire.stopped.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                wire.connections += 1
                threads.append(threading.Thread(target=one, args=(connection,)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield wire
    finally:
        wire.stopped.set()
        acceptor.join()
        for thread in threads:
            thread.join()
        listener.close()


def certificate(directory: Path, *, host: str = "127.0.0.1", days: int = 1) -> ssl.SSLContext:
    """
    Return the TLS side of a server whose certificate vouches for itself, written to ``directory / "server.pem"``.

    Args:
        days: How long it is still valid; below zero for an expired one.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clerk_views test")])
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=30))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
