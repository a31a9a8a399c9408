"""What FastAPI's tutorial teaches, as routes: native, on our ASGI path and under uvicorn they answer the same, in one order of events.

A sample of what is asked, drawn from `TURBOAPI_CORPUS_SEED`; `TURBOAPI_CORPUS=all` (ci/corpus) asks all of it, and more by chance. A
failure says what to type to see it again. corpus/ has the routes and the servers.
"""

import contextvars
import logging
import os
import random
from collections.abc import Iterator

import pytest
from corpus.ask import Ask, mutated
from corpus.kit import Kit
from corpus.native import listed, not_native
from corpus.parts import PARTS
from corpus.servers import Servers
from corpus.set_ups import SET_UPS
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, Phase, given, seed, settings

SEED = os.environ.get("TURBOAPI_CORPUS_SEED", "13")
ASKS_ALL = os.environ.get("TURBOAPI_CORPUS") == "all"
#: Of a part in a set-up, in a sample: of the good requests and of the others.
SAMPLE = 12
#: Of the requests that are not good, one in so many is asked in set-ups that have more around the app.
PART_AROUND = 10
#: Requests by chance, for each part.
BY_CHANCE = 2000 if ASKS_ALL else 15
#: Differences of a part that are shown; one fault often makes hundreds.
SHOWN_MAX = 8

pytestmark = [pytest.mark.above_platform, pytest.mark.filterwarnings("ignore::fastapi.exceptions.FastAPIDeprecationWarning")]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the apps raise on purpose is not logged by servers; what they log themselves is an event."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def chosen(kit: Kit, set_up_name: str, part_name: str) -> list[Ask]:
    """What is asked in this run, in an order that is always the same."""
    good, worse = kit.good, kit.all_asks()[len(kit.good) :]
    draw = random.Random(f"{SEED} {set_up_name} {part_name}")
    if ASKS_ALL:
        return good + (worse if set_up_name == "plain" else draw.sample(worse, len(worse) // PART_AROUND))
    return draw.sample(good, min(SAMPLE, len(good))) + draw.sample(worse, min(SAMPLE, len(worse)))


@pytest.mark.parametrize("part_name", PARTS)
@pytest.mark.parametrize("set_up_name", SET_UPS)
@pytest.mark.timeout(1800 if ASKS_ALL else 60)
def test_same(set_up_name: str, part_name: str) -> None:
    different, problems = 0, []
    with Servers(PARTS[part_name], set_up_name) as servers:
        asks = chosen(servers.kits[0], set_up_name, part_name)
        for ask in asks:
            if found := servers.ask(ask):
                different += 1
                problems += [described(ask, found)] if different <= SHOWN_MAX else []
    problems += servers.left()[:SHOWN_MAX]
    if problems:
        kind = "all" if ASKS_ALL else "sample"
        again = f"TURBOAPI_CORPUS={kind} TURBOAPI_CORPUS_SEED={SEED} python -m pytest tests/test_corpus.py -k 'same and {set_up_name}-{part_name}'"
        pytest.fail(f"{different} of {len(asks)} requests differ ({again}):\n" + "\n".join(problems), pytrace=False)


def described(ask: Ask, found: list[str]) -> str:
    before = f"{ask.before}: " if ask.before else ""
    return f"{before}{ask.raw()[:300]!r}\n    " + "\n    ".join(line[:1500] for line in found)


@pytest.mark.parametrize("part_name", PARTS)
@pytest.mark.timeout(1800 if ASKS_ALL else 60)
def test_by_chance(part_name: str) -> None:
    """Requests that nobody has thought of: those of the part, changed in up to three places."""
    with Servers(PARTS[part_name], "plain") as servers:
        phases = [Phase.generate] if ASKS_ALL else [Phase.generate, Phase.shrink]

        @seed(SEED)
        @settings(max_examples=BY_CHANCE, deadline=None, database=None, phases=phases, suppress_health_check=list(HealthCheck))
        @given(ask=mutated(servers.kits[0].all_asks()))
        def check(ask: Ask) -> None:
            found = servers.ask(ask)
            assert not found, described(ask, found)

        check()
    assert servers.left() == []


def test_not_native() -> None:
    """The routes that take the app's own call are those of corpus/not_native.txt: one that has become native is taken out of it."""
    found, expected = not_native(), listed()
    assert {route: reason for route, reason in found.items() if route not in expected} == {}
    assert sorted(expected.keys() - found.keys()) == []


def test_size() -> None:
    """What the corpus is for is not lost by a slip in a table."""
    kits = [part.make() for part in PARTS.values()]
    assert sum(len(list(iter_route_contexts(kit.app.routes))) for kit in kits) >= 2000
    assert sum(len(kit.good) for kit in kits) >= 4000
    assert sum(len(kit.all_asks()) for kit in kits) >= 60_000


@pytest.mark.parametrize(
    ("set_up_name", "part_name", "path", "part"),
    [
        ("handlers", "query", "/query/required/int", "status"),
        ("handlers", "query", "/query/required/int", "headers"),
        ("handlers", "query", "/query/required/int", "body"),
        ("recorder", "nested", "/def/def/def", "events"),
    ],
)
def test_differences_are_seen(set_up_name: str, part_name: str, path: str, part: str) -> None:
    """With a server of another set-up in the place of ours."""
    with Servers(PARTS[part_name], "plain") as servers, Servers(PARTS[part_name], set_up_name) as other:
        assert servers.ask(Ask(path)) == []
        servers.sides["native"] = other.sides["native"]
        assert any(line.startswith(f"native {part}: ") for line in servers.ask(Ask(path)))


def test_context_and_answer_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event has what its place sees of the context, of the log, and whether the client has its answer."""
    monkeypatch.setattr("corpus.kit.SECONDS_TO_ANSWER", 0)
    kit = PARTS["tasks"].make()

    def write() -> None:
        kit.mark("first")
        kit.log.warning("line %d", 1)
        kit.wait("task")
        kit.record.answered.set()
        kit.wait("task")

    contextvars.copy_context().run(write)
    kit.note("outside")
    expected = ["first [-]", "log line 1 [-+first]", "task, without an answer [-+first]", "task [-+first]", "outside [-]"]
    assert kit.record.take() == expected
