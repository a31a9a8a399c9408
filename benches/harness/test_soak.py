"""What a soak test must find, and what it must not: `python3 -m unittest harness.test_soak` in benches/."""

import dataclasses
import json
import os
import random
import unittest

from harness.server import free_port
from harness.soak import Sample, Soak, Usage, abuse, judge, limit, undecided

MIB = 1 << 20


def interval(p99, disturbed=0, raw=None):
    return {
        "answers": 1000,
        "p99_us": p99,
        "raw_p99_us": p99 if raw is None else raw,
        "disturbed": disturbed,
        "stalled_us": disturbed * 100,
    }


def usage(server=0.9, client=0.5, server_waited=0.03, client_waited=0.03, meter=0.03):
    """Of an interval of ten seconds, as shares of it."""
    return Usage(10.0, *(share * 10 for share in (server, client, server_waited, client_waited, meter)), 0.0)


def samples(seconds=300, resident=lambda at: 60 * MIB, descriptors=lambda at: 150):
    return [Sample(float(at), int(resident(at)), int(descriptors(at))) for at in range(seconds)]


NOISE = random.Random(7)
GOOD = Soak(
    samples=samples(),
    intervals=[interval(1000), interval(2000), interval(500)],
    total={"right": 10**6, "wrong": 0, "lost": 0},
    abuse=[],
    descriptors_before=12,
    descriptors_after=12,
    exit_code=0,
    usage=[usage()] * 3,
)


class Judgement(unittest.TestCase):
    def check(self, expected, p99_factor=2.0, **changes):
        found = judge(dataclasses.replace(GOOD, **changes), p99_factor)
        self.assertEqual(len(found), 1 if expected else 0, found)
        if expected:
            self.assertIn(expected, found[0])

    def test_answers(self):
        self.check("")
        self.check("1 of 100 answers were wrong", total={"right": 99, "wrong": 1, "lost": 0})
        self.check("1 connections were lost", total={"right": 99, "wrong": 0, "lost": 1})
        self.check("no answer came", total={"right": 0, "wrong": 0, "lost": 0})
        self.check("silence: still open", abuse=["silence: still open after 60 s"])
        self.check("status -9", exit_code=-9)

    def test_memory(self):
        self.check("", samples=samples(resident=lambda at: 60 * MIB + at * 4000))  # 0.7 MiB in the judged time
        self.check("resident memory rose", samples=samples(resident=lambda at: 60 * MIB + at * 8000))
        self.check("", samples=samples(resident=lambda at: 60 * MIB - at * 8000))
        # A step within the warm-up, and noise of 4 MiB around no slope.
        self.check("", samples=samples(resident=lambda at: (60 if at < 60 else 90) * MIB))
        self.check("", samples=samples(resident=lambda at: 60 * MIB + NOISE.gauss(0, 2 * MIB)))
        self.check("resident memory rose", samples=samples(resident=lambda at: 60 * MIB + NOISE.gauss(0, MIB) + at * 40_000))
        self.check("resident memory rose", samples=samples(60, resident=lambda at: 60 * MIB + at * 50_000))

    def test_descriptors(self):
        self.check("", samples=samples(descriptors=lambda at: 150 + at % 5))
        self.check("descriptors rose", samples=samples(descriptors=lambda at: 150 + at / 10))
        self.check("13 descriptors are open when all clients have gone, 12 were before", descriptors_after=13)

    def test_latencies(self):
        self.check("p99 of interval 2 is 2001", intervals=[interval(1000), interval(2001)])
        self.check("p99 of interval 3 is 2001", intervals=[interval(1000), interval(900), interval(2001)])
        self.check("", intervals=[interval(1000), interval(2001)], p99_factor=3)
        self.check("", intervals=[interval(1000)])
        self.check("", intervals=[interval(1000), interval(2001)], p99_factor=0)
        # What was late in a stop is not judged, however late it was; a server that is slow beside some stops is.
        self.check("", intervals=[interval(1000), interval(1000, disturbed=100, raw=90_000)])
        self.check("p99 of interval 2 is 2001", intervals=[interval(1000), interval(2001, disturbed=100)])

    def test_no_verdict(self):
        def check(expected, found, **changes):
            soak = dataclasses.replace(GOOD, **changes)
            self.assertEqual(len(judge(soak)), found, judge(soak))
            seen = undecided(soak)
            self.assertIn(expected, seen)
            self.assertEqual(bool(expected), bool(seen), seen)

        check("", 0)
        check("", 0, intervals=[interval(1000, disturbed=100)] * 3)
        stood = "stood still for 10 ms and disturbed 10% of the answers"
        # Nothing is said of a disturbed interval, and nothing of any if the first one was; the others are judged as ever.
        check(
            f"1 of 3 intervals were disturbed; in interval 2 the machine {stood}", 0, intervals=[interval(1), interval(9, 101), interval(2)]
        )
        check(stood, 1, intervals=[interval(1), interval(9, 101), interval(3)])
        check("in interval 1 the machine", 0, intervals=[interval(1, 101), interval(9), interval(9)])
        waits = usage(server_waited=0.07), usage(client_waited=0.07)
        check("the server waited for a core 4.0% of the time and the client 0.0%", 0, usage=[usage(), waits[0], usage()])
        check("the server waited for a core 0.0% of the time and the client 4.0%", 0, usage=[usage(), usage(), waits[1]])
        # Waiting is no excuse for a p99 that is too high, as it could be for the server's own threads.
        check("the server waited", 1, intervals=[interval(1), interval(9), interval(2)], usage=[waits[0]] * 3)
        # The meters make both wait: that is no disturbance.
        check("", 0, usage=[usage(server_waited=0.054, client_waited=0.054, meter=0.04)] * 3)

    def test_limit(self):
        for server, load, said in [(0.95, 0.99, "the server is"), (0.94, 0.99, "the CLIENT is"), (0.94, 0.94, "NEITHER is")]:
            self.assertIn(f"{said} the limit", limit(usage(server=server, client=load)))

    def test_garbage(self):
        for garbage, faults in [
            ({}, 0),
            ({"builtins.dict": GOOD.total["right"] // 1000}, 0),
            ({"builtins.dict": GOOD.total["right"] // 1000 + 1}, 1),
            ({"turboapi.plan.leaf.Leaf": 1}, 1),
        ]:
            self.assertEqual(len(judge(dataclasses.replace(GOOD, garbage=garbage))), faults, garbage)

    def test_too_few_samples(self):
        found = judge(dataclasses.replace(GOOD, samples=samples(2)))
        self.assertEqual(len(found), 2, found)
        found = judge(dataclasses.replace(GOOD, samples=[]))
        self.assertEqual(len(found), 2, found)


class Abuse(unittest.TestCase):
    def test_it_comes_after_all_others_and_ends_when_asked(self):
        abusers = abuse(free_port(), 1)  # nobody listens there
        self.assertEqual(os.sched_getscheduler(abusers.pid), os.SCHED_IDLE)
        said = json.loads(abusers.communicate(timeout=30)[0])
        self.assertEqual((abusers.returncode, said["failures"], sum(said["endings"].values()) > 0), (0, [], True), said)


if __name__ == "__main__":
    unittest.main()
