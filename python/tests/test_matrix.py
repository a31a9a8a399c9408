"""One app of every kind of route in every set-up of middlewares: our native routes, our ASGI path and uvicorn do the same, in one order.

A sample of the requests, drawn from `TURBOAPI_MATRIX_SEED`; `TURBOAPI_MATRIX=all` (ci/matrix) asks all of them. A failure says what
to type to see it again.
"""

import logging
import os
import random
from collections.abc import Iterator
from functools import partial

import pytest
from differential import request
from fastapi.routing import iter_route_contexts
from matrix.app import make_app
from matrix.layers import SETUPS
from matrix.record import Record
from matrix.requests import all_requests
from matrix.servers import Matrix

SEED = os.environ.get("TURBOAPI_MATRIX_SEED", "12")
ASKS_ALL = os.environ.get("TURBOAPI_MATRIX") == "all"
SAMPLE = 12
#: Which set-ups: `1/3` is every third from the second on. ci/matrix has two processes, and ci/test asks a third of them where the build
#: or the backend is another one. Its name is none that a server would take for a setting of its own.
FIRST, STEP = map(int, os.environ.get("MATRIX_PART", "0/1").split("/"))
NAMES = list(SETUPS)[FIRST::STEP]
REQUESTS = all_requests()
#: A set-up's differences that are shown; one fault often makes hundreds.
SHOWN_MAX = 8
#: When the signer of sessions thinks it is, in seconds: two servers must sign the same, whatever the second.
NOW = 1_700_000_000
#: How many routes are native in each set-up, whatever is around them; the others have what no plan covers yet.
NATIVE_ROUTES = 181

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate Operation ID")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock of the signer stands still, and what the apps raise on purpose is not logged."""
    monkeypatch.setattr("itsdangerous.TimestampSigner.get_timestamp", lambda self: NOW)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def sample(set_up_name: str) -> list[bytes]:
    if ASKS_ALL:
        return REQUESTS
    return random.Random(f"{SEED} {set_up_name}").sample(REQUESTS, SAMPLE)


@pytest.mark.parametrize("set_up_name", NAMES)
@pytest.mark.timeout(900 if ASKS_ALL else 60)
def test_same(set_up_name: str) -> None:
    requests, different, problems = sample(set_up_name), 0, []
    with Matrix(partial(make_app, set_up_name)) as matrix:
        for raw in requests:
            if found := matrix.differences(raw):
                different += 1
                problems += [f"{raw[:300]!r}\n    " + "\n    ".join(found)] if different <= SHOWN_MAX else []
        native = matrix.native_count()
    # The servers have ended, so nothing more can come.
    late = [line for side in matrix.sides.values() for line in side.late]
    late += [f"{name}: {events} came at the end" for name, side in matrix.sides.items() if (events := side.record.take())]
    problems += late[:SHOWN_MAX]
    if native != NATIVE_ROUTES:
        problems.append(f"{native} routes are native, NATIVE_ROUTES is {NATIVE_ROUTES}")
    if problems:
        kind = "all" if ASKS_ALL else "sample"
        again = f"TURBOAPI_MATRIX={kind} TURBOAPI_MATRIX_SEED={SEED} python -m pytest tests/test_matrix.py -k '{set_up_name}'"
        pytest.fail(f"{different} of {len(requests)} requests differ ({again}):\n" + "\n".join(problems), pytrace=False)


@pytest.mark.parametrize("path", ["/yield/nested/1", "/yield/raises"])
def test_ends_wait_until_middleware_has_the_answer(path: str) -> None:
    """ci/matrix has found that they did not."""
    with Matrix(partial(make_app, "functions.adds_header")) as matrix:
        assert matrix.differences(request("GET", path)) == []


def test_size() -> None:
    """What the suite is for is not lost by a slip in a table."""
    routes = list(iter_route_contexts(make_app("stock.none", Record().note).routes))
    assert len(routes) >= 170
    assert len(SETUPS) >= 80
    assert len(REQUESTS) >= 1400


@pytest.mark.parametrize(
    ("set_up_name", "target", "part"),
    [
        ("functions.adds_header", "/plain", "headers"),
        ("protocol.rewrites_answer", "/plain", "status"),
        ("functions.streams_around", "/plain", "body"),
        ("protocol.closure", "/plain", "events"),
        ("protocol.raises_after", "/plain", "exceptions"),
        ("protocol.swallows", "/raise/stream", "is_whole"),
    ],
)
def test_differences_are_seen(set_up_name: str, target: str, part: str) -> None:
    """With a server of another set-up in the place of ours."""
    raw = request("GET", target)
    with Matrix(partial(make_app, "stock.none")) as matrix, Matrix(partial(make_app, set_up_name)) as other:
        assert matrix.differences(raw) == []
        matrix.sides["native"] = other.sides["native"]
        assert any(line.startswith(f"native {part}: ") for line in matrix.differences(raw))


def test_late_events_are_seen() -> None:
    with Matrix(partial(make_app, "stock.none")) as matrix:
        side = matrix.sides["native"]
        side.record.note("from before")
        assert matrix.differences(request("GET", "/plain")) == []
        assert side.late == ["native: ['from before'] came late, after b''"]
