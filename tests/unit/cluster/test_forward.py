from __future__ import annotations

import asyncio
import contextlib

from hypothesis import given
from hypothesis import strategies as st

from e2e.cluster.controlplane import find_free_ports
from e2e.cluster.forward import Mapping, Relay

PORTS = st.integers(1, 65535)


@given(host_port=PORTS, port=PORTS)
def test_property_mapping_is_read_as_it_is_written(host_port: int, port: int) -> None:
    mapping = Mapping(host_port, "10.77.0.1", port)

    assert Mapping.parse(str(mapping)) == mapping


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer only after the client has ended its half."""
    writer.write((await reader.read(-1)).upper())
    await writer.drain()
    writer.close()


async def test_relay_carries_both_halves_of_a_connection() -> None:
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    relay = await asyncio.start_server(Relay(Mapping(0, "127.0.0.1", target)).serve, "127.0.0.1", 0)
    port = relay.sockets[0].getsockname()[1]
    message = b"model " * 200_000

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(message)
    writer.write_eof()
    answer = await reader.read(-1)

    assert answer == message.upper()
    writer.close()
    for each in (relay, server):
        each.close()
        await each.wait_closed()


async def test_connection_to_nobody_ends() -> None:
    (nobody,) = find_free_ports(1)
    relay = await asyncio.start_server(Relay(Mapping(0, "127.0.0.1", nobody)).serve, "127.0.0.1", 0)

    reader, writer = await asyncio.open_connection(*relay.sockets[0].getsockname())
    with contextlib.suppress(ConnectionResetError):  # as good an end
        assert await reader.read(-1) == b""
    writer.close()
    relay.close()
    await relay.wait_closed()
