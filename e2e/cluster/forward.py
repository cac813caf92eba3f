"""A TCP forwarder from 127.0.0.1 of this machine to addresses inside a network namespace.

Run as a process: `python -m e2e.cluster.forward NAMESPACE_FILE HOST_PORT=ADDRESS:PORT …`. It opens
its listeners first and enters the namespace then: listeners stay where they were opened, and every
later connection is made inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.netns import enter

CHUNK_BYTES = 256 * 1024
CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Mapping:
    """One host port and where its connections go."""

    host_port: int
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.host_port}={self.address}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Mapping:
        host_port, _, target = text.partition("=")
        address, _, port = target.rpartition(":")
        return cls(int(host_port), address, int(port))


def main(arguments: list[str]) -> int:
    namespace, *mappings = arguments
    asyncio.run(forward(Path(namespace), [Mapping.parse(text) for text in mappings]))
    return 0


async def forward(namespace: Path, mappings: list[Mapping]) -> None:
    """Serve all mappings until the process is told to end."""
    listeners = [_listen(mapping.host_port) for mapping in mappings]
    enter(namespace)
    servers = [
        await asyncio.start_server(Relay(mapping).serve, sock=listener, limit=CHUNK_BYTES)
        for mapping, listener in zip(mappings, listeners, strict=True)
    ]
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    for server in servers:
        server.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


@dataclass(frozen=True, slots=True)
class Relay:
    mapping: Mapping

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join one accepted connection with one made inside the namespace."""
        try:
            inner_reader, inner_writer = await asyncio.wait_for(
                asyncio.open_connection(self.mapping.address, self.mapping.port, limit=CHUNK_BYTES),
                CONNECT_SECONDS,
            )
        except OSError as error:
            print(f"{self.mapping}: {error}", file=sys.stderr, flush=True)
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        for end in (inner_writer, writer):
            end.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the sender ends its half, then end ours; the other half goes on."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        return
    writer.transport.abort()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
