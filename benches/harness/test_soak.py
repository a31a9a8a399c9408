"""What a soak test must find, and what it must not: `python3 -m unittest harness.test_soak` in benches/."""

import dataclasses
import random
import unittest

from harness.soak import Sample, Soak, judge

MIB = 1 << 20


def interval(p99):
    return {"p99_us": p99}


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

    def test_too_few_samples(self):
        found = judge(dataclasses.replace(GOOD, samples=samples(2)))
        self.assertEqual(len(found), 2, found)
        found = judge(dataclasses.replace(GOOD, samples=[]))
        self.assertEqual(len(found), 2, found)


if __name__ == "__main__":
    unittest.main()
