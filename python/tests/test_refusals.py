"""What the log says of what the server itself refuses."""

import asyncio
import logging
import threading

import pytest
from fastapi import FastAPI
from wire import PATIENCE, Peer, get

from turboapi.config import Config
from turboapi.testing import TestServer
from turboapi.watching import refusals


@pytest.mark.parametrize(
    ("counts", "lines"),
    [
        ({"503": 2}, ["WARNING worker 1 is at its limits: 2 request(s) got 503 (handlers_in_flight_max is 16384)"]),
        (
            {"no_descriptor": 9, "connections_max": 3},
            [
                "WARNING worker 1 is at its limits: it stopped accepting 3 time(s) (connections_max is 7); "
                "accepting failed 9 time(s) for want of file descriptors or memory (`ulimit -n`, LimitNOFILE)"
            ],
        ),
        (
            {"413": 1, "400": 20},
            ["INFO worker 1 refused requests: 20 with 400, 1 with 413 (body_bytes_max is 16777216, a route may have its own)"],
        ),
        ({"websocket": 3}, ["WARNING worker 1 refused 3 WebSocket handshake(s) with 501: turboapi does not serve WebSocket yet"]),
        ({"not_taken": 2}, ["INFO worker 1 reset 2 connection(s) that took nothing of their answers for 30 s"]),
    ],
)
def test_lines(counts, lines, caplog):
    with caplog.at_level(logging.INFO, "turboapi"):
        refusals.log(1, Config(connections_max=7), counts)
    assert [f"{record.levelname} {record.getMessage()}" for record in caplog.records] == lines


def test_an_attack_is_two_lines(caplog):
    """One at once, and one for all the rest, here at the end."""
    app, begun = FastAPI(), threading.Event()

    @app.get("/wait")
    async def wait():
        begun.set()
        await asyncio.sleep(1000)

    @app.get("/")
    def index():
        return "served"

    with caplog.at_level(logging.INFO, "turboapi"), TestServer(app, handlers_in_flight_max=1, drain_timeout=0.0) as server:
        with Peer(server.port) as peer:
            peer.ask("/wait")
            assert begun.wait(PATIENCE)
            # The native route's, then the core's own: the app's ASGI call gets as little.
            for path in ["/", "/docs"] * 20:
                answer = get(server.port, path)
                assert (answer.status, answer.header("retry-after")) == (503, "1")
            for _ in range(30):
                assert get(server.port, "/", "content-length: 99999999").status == 413
        # Without the count of native routes, from the start.
        assert [record.getMessage() for record in caplog.records][1:] == [
            "worker 0 is at its limits: 1 request(s) got 503 (handlers_in_flight_max is 1)"
        ]
        server.stop()
    lines = [record.getMessage() for record in caplog.records if "drain_timeout" not in record.getMessage()]
    assert lines[2:] == [
        "worker 0 is at its limits: 39 request(s) got 503 (handlers_in_flight_max is 1)",
        "worker 0 refused requests: 30 with 413 (body_bytes_max is 16777216, a route may have its own)",
    ]
