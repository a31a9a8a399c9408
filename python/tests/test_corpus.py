"""What FastAPI's tutorial teaches, as routes: native, on our ASGI path and under uvicorn they answer the same, in one order of events.

A sample of what is asked, drawn from `CORPUS_SEED`; `CORPUS=all` (ci/corpus) asks all of it, and more by chance. A
failure says what to type to see it again. corpus/ has the routes and the servers.
"""

import contextvars
import logging
import os
import random
import zlib
from collections.abc import Iterator

import pytest
from corpus.ask import Ask, mutated, spoilt
from corpus.kit import Kit
from corpus.known import KNOWN, is_known, known_asks
from corpus.native import listed, not_native
from corpus.parts import PARTS
from corpus.servers import Servers
from corpus.set_ups import SET_UPS
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, Phase, given, seed, settings

SEED = os.environ.get("CORPUS_SEED", "13")
ASKS_ALL = os.environ.get("CORPUS") == "all"
#: Which parts: `1/2` is every other one from the second on. ci/corpus has two processes. The names are none that a server would take for
#: settings of its own.
FIRST, STEP = map(int, os.environ.get("CORPUS_PART", "0/1").split("/"))
NAMES = list(PARTS)[FIRST::STEP]
#: Of a part in a set-up, in a sample: of the good requests and of the others.
SAMPLE = 12
#: Of the requests that are not good, one in so many is asked in set-ups that have more around the app.
PART_AROUND = 10
#: Requests by chance, for each part in a set-up.
BY_CHANCE = 1000 if ASKS_ALL else 10
#: Of requests that are known to differ, how many are asked until one does.
KNOWN_ASKS_MAX = 40
#: Differences of a part that are shown; one fault often makes hundreds.
SHOWN_MAX = 8

pytestmark = [
    pytest.mark.above_platform,
    pytest.mark.filterwarnings("ignore::fastapi.exceptions.FastAPIDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the apps raise on purpose is not logged by servers; what they log themselves is an event."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


#: Everything in each set-up; of a sample each part in one.
PAIRS = [
    (set_up_name, part_name)
    for number, part_name in enumerate(NAMES)
    for set_up_name in (SET_UPS if ASKS_ALL else [list(SET_UPS)[(number + zlib.crc32(SEED.encode())) % len(SET_UPS)]])
]


def chosen(kit: Kit, set_up_name: str, part_name: str) -> list[Ask]:
    """What is asked in this run, in an order that is always the same."""
    good = [ask for ask in kit.good if not is_known(part_name, ask)]
    draw = random.Random(f"{SEED} {set_up_name} {part_name}")
    if ASKS_ALL:
        worse = [ask for ask in kit.worse() if not is_known(part_name, ask)]
        return good + (worse if set_up_name == "plain" else draw.sample(worse, len(worse) // PART_AROUND))
    good = draw.sample(good, min(SAMPLE, len(good)))
    spoils = draw.choices(kit.spoils, k=SAMPLE) if kit.spoils else []
    return good + [draw.choice(list(spoilt(ask))) for ask in spoils if not is_known(part_name, ask)]


@pytest.mark.parametrize(("set_up_name", "part_name"), PAIRS)
@pytest.mark.timeout(3600 if ASKS_ALL else 60)
def test_same(set_up_name: str, part_name: str) -> None:
    different, problems = 0, []
    with Servers(PARTS[part_name], set_up_name) as servers:
        asks = chosen(servers.kits[0], set_up_name, part_name)
        for ask in asks:
            if found := servers.ask(ask):
                different += 1
                problems += [described(ask, found)] if different <= SHOWN_MAX else []
        if not different:
            problems += by_chance(servers, [ask for ask in servers.kits[0].good if not is_known(part_name, ask)])
    problems += servers.left()[:SHOWN_MAX]
    if problems:
        kind = "all" if ASKS_ALL else "sample"
        again = f"CORPUS={kind} CORPUS_SEED={SEED} python -m pytest tests/test_corpus.py -k 'same and {set_up_name}-{part_name}'"
        pytest.fail(f"{different} of {len(asks)} requests differ ({again}):\n" + "\n".join(problems), pytrace=False)


def by_chance(servers: Servers, asks: list[Ask]) -> list[str]:
    """Asks what nobody has thought of: requests of the part, changed in up to three places. Returns the first that differs, if one does."""
    phases = [Phase.generate] if ASKS_ALL else [Phase.generate, Phase.shrink]

    @seed(SEED)
    @settings(max_examples=BY_CHANCE, deadline=None, database=None, phases=phases, suppress_health_check=list(HealthCheck))
    @given(ask=mutated(asks))
    def check(ask: Ask) -> None:
        found = servers.ask(ask)
        assert not found, described(ask, found)

    try:
        check()
    except AssertionError as error:
        return [f"by chance: {error}"]
    return []


def described(ask: Ask, found: list[str]) -> str:
    before = f"{ask.before}: " if ask.before else ""
    return f"{before}{ask.raw()[:300]!r}\n    " + "\n    ".join(line[:1500] for line in found)


@pytest.mark.parametrize("part_name", KNOWN)
def test_known_differences(part_name: str) -> None:
    """What corpus/known.py says to differ does; else it is taken out there."""
    with Servers(PARTS[part_name], "plain") as servers:
        groups = known_asks(part_name, servers.kits[0])
        mended = [name for name, asks in groups.items() if not any(servers.ask(ask) for ask in asks[:KNOWN_ASKS_MAX])]
    assert mended == []


@pytest.fixture(scope="module")
def kits() -> dict[str, Kit]:
    return {name: part.make() for name, part in PARTS.items()}


def test_not_native(kits: dict[str, Kit]) -> None:
    """The routes that take the app's own call are those of corpus/not_native.txt: one that has become native is taken out of it."""
    found, expected = not_native(kits), listed()
    assert {route: reason for route, reason in found.items() if route not in expected} == {}
    assert sorted(expected.keys() - found.keys()) == []


def test_size(kits: dict[str, Kit]) -> None:
    """What the corpus is for is not lost by a slip in a table."""
    assert sum(len(list(iter_route_contexts(kit.app.routes))) for kit in kits.values()) >= 2000
    assert sum(len(kit.good) for kit in kits.values()) >= 4000
    assert sum(len(kit.good) + len(kit.worse()) for kit in kits.values()) >= 60_000


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
