"""The harness must fail when it should: `python3 -m unittest harness.test_harness`, from benches/. The last test needs wrk."""

import concurrent.futures
import dataclasses
import gzip
import json
import os
import pathlib
import shutil
import socket
import sys
import unittest
import xml.etree.ElementTree
from unittest import mock

from harness import churn, client, kinds, measure, parity, picture, report, rows, server, tax, workloads, wrk

LOAD = wrk.Load(requests=1000, microseconds=1_000_000, octets=100_000, failed=0, over_399=0, wrong=0, p50_us=1, p99_us=1, max_us=1)

# One fault each, in the app's answer to every 50th call.
FAULTY_APP = """
import http.server, itertools, sys
calls, FAULT = itertools.count(), sys.argv[2]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1
    def log_message(self, *_): pass
    def do_GET(self):
        number = next(calls)
        fault = FAULT if self.path != "/calls" and number % 50 == 49 else ""
        if fault == "counts twice": next(calls)
        if fault == "closes": self.close_connection = True; return
        body = b'{"user_id":123}' if self.path != "/calls" else b"%d" % number
        if fault == "wrong body": body = b'{"user_id":124}'
        if fault == "302": body = b""
        self.send_response({"500": 500, "302": 302}.get(fault, 200))
        self.send_header("content-length", len(body)); self.end_headers(); self.wfile.write(body)
class Server(http.server.ThreadingHTTPServer):
    request_queue_size, daemon_threads = 128, True
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Counts(unittest.TestCase):
    def check(self, fails: bool, calls: int = 1000, octets: int = 100, row: str = "fixed", **shape: int) -> None:
        of_name = next(candidate for candidate in rows.ROWS if candidate.name == row)
        of_name = dataclasses.replace(of_name, shape=rows.Shape(**shape))
        load = dataclasses.replace(LOAD, closes=100, octets=102_000) if of_name.shape.requests_per_connection else LOAD
        with self.subTest(calls=calls, octets=octets, row=row, shape=shape):
            if fails:
                self.assertRaises(measure.CountError, measure.check_counts, of_name, load, calls, octets, 4, 120)
            else:
                measure.check_counts(of_name, load, calls, octets, 4, 120)

    def test_counts(self) -> None:
        self.check(False)
        self.check(False, calls=1004)  # one in flight on each connection
        self.check(True, calls=999)
        self.check(True, calls=1005)
        self.check(False, calls=1064, depth=16)
        self.check(True, calls=1065, depth=16)
        self.check(False, requests_per_connection=10)  # 100 answers were 20 octets longer
        self.check(True, requests_per_connection=10, octets=101)
        self.check(True, requests_per_connection=10, octets=99)
        self.check(True, octets=101)
        self.check(True, octets=90)
        self.check(False, calls=0, row="uvicorn-422")
        self.check(True, calls=1, row="uvicorn-422")


class Bars(unittest.TestCase):
    def check(self, passes: bool, own: float | None, base: float | None) -> None:
        def samples(cpu_us: float | None) -> list[measure.Sample]:
            return [] if cpu_us is None else [measure.Sample(cpu_us, 2.0, 1.0, 1.0, 1, 1, 0.0, 1, 1, 1, "")]

        with self.subTest(own=own, base=base):
            judged = report.judge(rows.Bar("a", "b", 1.4), {"a": samples(own), "b": samples(base)}, {})
            self.assertEqual(judged[0], passes, judged[1])

    def test_bars(self) -> None:
        self.check(True, 1.4, 1.0)
        self.check(False, 1.41, 1.0)
        self.check(False, None, 1.0)
        self.check(False, 1.0, None)


class Tax(unittest.TestCase):
    def check_own(self, right: bool, **found: object) -> None:
        bg = next(kind for kind in kinds.KINDS if kind.name == "bg")
        with self.subTest(**found):
            seen = {"answer": bg.request.answer, "driven": 200, "steps": 400} | found
            if right:
                tax.check_own(bg, seen)
            else:
                self.assertRaises(tax.OwnError, tax.check_own, bg, seen)

    def test_own_python_does_what_the_route_does(self) -> None:
        self.check_own(True)
        self.check_own(False, answer='{"ok":false}')
        self.check_own(False, steps=200)  # the task did not run

    def check(self, passes: bool, kind: str, cpu_us: list[float], own_us: list[float], right: float) -> None:
        samples, fixed = ([measure.Sample(us, 2.0, 1.0, 1.0, 1, 1, 0.0, 1, 1, 1, "") for us in row] for row in (cpu_us, [5.0, 9.0, 6.0]))
        chosen = [of for of in kinds.KINDS if of.name == kind]
        found = tax.taxes(fixed, {kind: tax.Figures(samples, own_us)})
        with self.subTest(kind=kind, cpu_us=cpu_us):
            self.assertAlmostEqual(found[kind], right)
            self.assertEqual(tax.passes(chosen, found), passes)

    def test_taxes(self) -> None:
        self.check(True, "users", [14.0, 12.0, 20.0], [2.0, 2.5, 1.0], 6.0)  # medians: 14 less 2 less 6
        self.check(False, "users", [14.1, 12.0, 20.0], [2.0, 2.5, 1.0], 6.1)
        self.check(True, "stream", [40.0, 40.0, 40.0], [2.0, 2.0, 2.0], 32.0)  # it may, and says why
        self.assertFalse(tax.passes(list(kinds.KINDS), {}))

    def test_every_kind_is_driven(self) -> None:
        source = (rows.APPS / "own_python.py").read_text()
        for kind in kinds.KINDS:
            self.assertEqual(f'"{kind.name}": ' in source, kind.has_own_python, kind.name)


class Parity(unittest.TestCase):
    """Figures of three rounds; the middle one was slow for all."""

    def figures(self, **factors: float) -> parity.Costs:
        return {
            ("def", connections, backend): [base * factor for base in (10.0, 14.0, 11.0)]
            for connections in (8, 64, 512)
            for backend, factor in factors.items()
        }

    def check_slope(self, points: list[tuple[float, float]], per_unit: float, deviation_max: float) -> None:
        found = parity.slope(points)
        self.assertAlmostEqual(found.per_unit, per_unit)
        self.assertAlmostEqual(found.deviation_max, deviation_max)

    def test_slopes(self) -> None:
        self.check_slope([(0, 5), (1, 5)], 0, 0)
        self.check_slope([(0, 1e6), (2500, 1e6 + 2500 * 512), (5000, 1e6 + 5000 * 512)], 512, 0)
        self.check_slope([(0, 0), (1, 3), (2, 0)], 0, 2)
        self.check_slope([(0, 9), (1, 6), (2, 3)], -3, 0)

    def test_ratios_are_of_pairs(self) -> None:
        self.assertAlmostEqual(parity.ratio([10, 28, 11], [5, 14, 22]), 2)
        self.assertRaises(ValueError, parity.ratio, [1.0, 2.0], [1.0])  # a round is missing
        figures = self.figures(uring=1, epoll=1.1)
        figures["def", 512, "epoll"] = [9.0, 9.0, 9.0]
        self.assertAlmostEqual(parity.pooled_ratio(figures, "def", "epoll", "uring"), 1.1)
        self.assertNotEqual(parity.pooled_ratio(figures, "def", "epoll", "kqueue"), parity.pooled_ratio(figures, "def", "epoll", "kqueue"))

    def check_decision(self, best: str, ties: list[str], default_passes: bool = True, default: str = "uring", **factors: float) -> None:
        with self.subTest(factors=factors, default=default):
            figures = self.figures(**factors)
            self.assertEqual(parity.decide(figures), (best, ties))
            self.assertEqual([passes for passes, _ in parity.decision_lines(figures, default)][-1], default_passes)

    def test_decisions(self) -> None:
        self.check_decision("uring", [], uring=1, epoll=1.1, monoio=1.05)
        self.check_decision("uring", ["epoll"], uring=1, epoll=1.029, monoio=1.05)
        self.check_decision("epoll", ["uring"], uring=1.02, epoll=1)
        self.check_decision("epoll", [], default_passes=False, uring=1.031, epoll=1)
        self.check_decision("epoll", [], default="epoll", uring=1.031, epoll=1)
        self.check_decision("uring", [], default="", default_passes=False, uring=1)
        self.check_decision("", [], default_passes=False)

    def check_load_bar(self, passes: list[bool], **factors: float) -> None:
        with self.subTest(factors=factors):
            self.assertEqual([passed for passed, _ in parity.load_bars(self.figures(**factors))], passes)

    def test_bars(self) -> None:
        self.check_load_bar([True, True], uring=1, epoll=1, monoio=0.98)
        self.check_load_bar([False, False], uring=1, epoll=1, monoio=0.96)
        self.check_load_bar([False, False], uring=1)
        self.check_load_bar([False, False])
        idle = {
            ("turboapi", "uring"): parity.Slope(1024, 0),
            ("turboapi", "epoll"): parity.Slope(1025, 0),
            ("platform", "epoll"): parity.Slope(1, 0),
        }
        self.assertEqual([passes for passes, _ in parity.idle_bars(idle)], [True, False])
        self.assertEqual([passes for passes, _ in parity.idle_bars({})], [False, False])

    def check_record(self, passes: list[bool], kqueue: float, recorded: dict) -> None:
        figures = {("fixed", 64, "kqueue"): [5.0, 7.0], ("def", 64, "kqueue"): [5.0 * kqueue, 7.0 * kqueue]}
        own = parity.record(figures, {}, "kqueue", "a Mac")
        with self.subTest(kqueue=kqueue, recorded=recorded):
            self.assertEqual([passed for passed, _ in parity.compare(own, recorded)], passes)

    def test_records(self) -> None:
        linux = {("fixed", 64, "epoll"): [4.0], ("def", 64, "epoll"): [5.0], ("fixed", 64, "uring"): [4.0], ("def", 64, "uring"): [6.0]}
        recorded = json.loads(json.dumps(parity.record(linux, {("turboapi", "uring"): parity.Slope(500.4, 1)}, "uring", "Linux")))
        self.assertEqual(recorded["ratios_to_fixed"], {"def": {"64": {"epoll": 1.25, "uring": 1.5}}})
        self.assertEqual(recorded["idle_bytes"], {"turboapi": {"uring": 500}})
        self.check_record([True], 1.2, recorded)
        self.check_record([True], 1.5 * 1.14, recorded)
        self.check_record([False], 1.5 * 1.16, recorded)
        self.check_record([False], 1.2, {"ratios_to_fixed": {}})
        self.assertEqual([passed for passed, _ in parity.compare(parity.record({}, {}, "", ""), recorded)], [False])


class Picture(unittest.TestCase):
    def check(self, figures: parity.Costs, bars: int, title: str = "a <title> & more") -> None:
        root = xml.etree.ElementTree.fromstring(picture.svg(figures, workloads.WORKLOADS, title))
        with self.subTest(title=title):
            self.assertTrue(root.tag.endswith("}svg"))
            self.assertEqual(len(root.findall(".//{*}g/{*}rect")), bars)
            self.assertEqual(root.find("{*}title").text, title)
            for rectangle in root.iter("{http://www.w3.org/2000/svg}rect"):
                self.assertGreaterEqual(float(rectangle.get("height")), 0)
                self.assertGreaterEqual(float(rectangle.get("y")), 0)

    def test_pictures(self) -> None:
        self.check({("def", 8, "uring"): [1.0]}, 1)
        self.check({(one.name, 8, "epoll"): [3.0, 0.001, 900.0] for one in workloads.WORKLOADS}, 4)
        self.check({("fixed", count, backend): [7.0, 8.0] for count in (8, 64, 512) for backend in "abcde"}, 15)

    def test_axes(self) -> None:
        for highest, step in ((5, 1), (5.1, 2), (11, 2.5), (13, 5), (0.9, 0.2), (900, 200)):
            self.assertAlmostEqual(picture.nice_step(highest), step)


class Processes(unittest.TestCase):
    def test_what_ps_writes(self) -> None:
        listed = server.process_table("  1   0  12:34.56   1024\n 77 1 1-02:03:04 0\n")
        self.assertEqual(listed, {1: server.Listed(0, 754.56, 1 << 20), 77: server.Listed(1, 93_784.0, 0)})

    @unittest.skipUnless(shutil.which("ps"), "ps is not installed")
    def test_without_proc(self) -> None:
        code = "import socket, sys, time; listener = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
        with mock.patch.object(server, "HAS_PROC", False):
            started = server.Server([sys.executable, "-c", code, "PORT"], {}, pathlib.Path("/"), None)
            try:
                started.wait_until_it_listens()
                self.assertEqual(started.pids(), [started.process.pid])
                self.assertGreater(started.memory().resident, 1 << 20)
                self.assertLess(started.cpu_seconds(), 60)
                started.check_place("kqueue")
            finally:
                started.stop()


class Refusals(unittest.TestCase):
    def check(self, code: str, refusal: str) -> None:
        started = server.Server([sys.executable, "-c", f"import sys; {code}"], {}, pathlib.Path("/"), None)
        try:
            with self.subTest(code=code):
                self.assertEqual(started.refusal(), refusal)
        finally:
            started.stop()

    def test_only_a_refused_backend_is_absent(self) -> None:
        self.check("sys.exit('TURBOAPI_IO is x, allowed are y')", "TURBOAPI_IO is x, allowed are y")
        self.check("raise OSError('TURBOAPI_IO is x')", "TURBOAPI_IO is x")
        self.check("sys.exit('connection reset')", "")
        self.check("print('TURBOAPI_IO is x'); sys.exit(3)", "")


class Churning(unittest.TestCase):
    def check(self, faults: int, growth: int = 0, after: int = 9, calls: int = 3) -> None:
        # 290 seconds are judged. The warm-up is not, however steep it is.
        memory = [(float(at), 1_000_000 + max(0, at - 110) * growth // 290 + min(at, 110) * 10_000) for at in range(401)]
        done = churn.Churn(400.0, {"answered, reset": 2, "answer unread": 1, "reset in a head": 5}, memory, [9], 9, after, calls)
        with self.subTest(growth=growth, after=after, calls=calls):
            self.assertEqual(len(done.faults()), faults, done.faults())

    def test_leaks(self) -> None:
        self.check(0)
        self.check(0, growth=250_000)
        self.check(1, growth=280_000)
        self.check(1, after=10)
        self.check(0, after=8)
        self.check(1, calls=4)
        self.check(3, growth=280_000, after=10, calls=2)


class ProcessTree(unittest.TestCase):
    def test_children_threads_and_the_reaped_are_counted(self) -> None:
        burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
        code = f"import os, subprocess, sys, threading, time; subprocess.run([sys.executable, '-c', {burn!r}]); "
        code += "thread = threading.Thread(target=exec, args=(sys.argv[1], {})); thread.start(); thread.join(); "
        code += f"subprocess.Popen([sys.executable, '-c', {burn!r} + chr(10) + 'time.sleep(60)']); "
        code += "__import__('socket').create_server(('127.0.0.1', int(sys.argv[2]))); time.sleep(60)"
        started = server.Server([sys.executable, "-c", code, burn, "PORT"], {}, pathlib.Path("/"), min(os.sched_getaffinity(0)))
        try:
            for _ in range(2000):
                if started.cpu_seconds() > 0.9:
                    break
                self.assertIsNone(started.process.poll(), started.log_text())
            self.assertGreater(started.cpu_seconds(), 0.9)
            self.assertEqual(len(started.pids()), 2)
            started.check_place("epoll")
            self.assertRaises(server.ServerError, started.check_place, "uring")
            pids = started.pids()
        finally:
            started.stop()
        self.assertFalse(any(server.is_running(pid) for pid in pids))


@unittest.skipUnless(shutil.which("wrk"), "wrk is not installed")
class Faults(unittest.TestCase):
    def check(self, fault: str, compares: bool, *errors: type[Exception]) -> None:
        row, cores = rows.ROWS[0], sorted(os.sched_getaffinity(0))
        started = server.Server([sys.executable, "-c", FAULTY_APP, "PORT", fault], {}, pathlib.Path("/"), cores[0])

        def run(
            port: int, request: rows.Request, core: int, connections: int, seconds: int, right: bytes | None, shape: rows.Shape
        ) -> wrk.Load:
            return original(port, request, core, connections, seconds, right if self.compares else None, shape)

        original, self.compares = wrk.run, compares
        try:
            with self.subTest(fault=fault, compares=compares), mock.patch.object(wrk, "run", run):
                if errors:
                    self.assertRaises(errors, measure.measure, row, started, cores[-1], 4, 1)
                else:
                    measure.measure(row, started, cores[-1], 4, 1)
        finally:
            started.stop()

    def test_faults(self) -> None:
        self.check("none", True)
        self.check("wrong body", True, wrk.LoadError)
        self.check("302", True, wrk.LoadError)
        # Also where wrk compares nothing, as in the measured window:
        self.check("500", False, wrk.LoadError)
        self.check("302", False, measure.CountError)  # wrk takes it for right, but it is shorter
        self.check("counts twice", False, measure.CountError)
        self.check("closes", False, measure.CountError, wrk.LoadError)  # after a clean close wrk connects again and says nothing


class Shares(unittest.TestCase):
    def check(self, closes: int, holds: bool) -> None:
        self.assertEqual(wrk.is_share(dataclasses.replace(LOAD, closes=closes), 10), holds, closes)

    def test_shares(self) -> None:
        self.check(100, True)
        self.check(130, True)
        self.check(160, False)
        self.check(0, False)


class Answers(unittest.TestCase):
    def test_a_wrong_answer_is_named(self) -> None:
        with mock.patch.object(client, "ask", return_value=client.Answer(200, b'{"user_id":"123"}', 1, {})):
            self.assertRaisesRegex(client.AnswerError, "right is 200", client.check, 1, rows.USER)

    def check(self, sent: bytes, right: str, headers: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, concurrent.futures.ThreadPoolExecutor() as pool:
            request = dataclasses.replace(rows.USER, answer=right, headers=(("Host", "here"),), answer_headers=(("x-one", "1"),))
            asked = pool.submit(client.check, listener.getsockname()[1], request)
            connection, _ = listener.accept()
            with connection:
                self.assertEqual(connection.recv(4096), b"GET /users/123 HTTP/1.1\r\nHost: here\r\n\r\n")
                whole = f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode() + sent
                connection.sendall(whole)
                answer = asked.result(10)
        self.assertEqual((answer.body, answer.octets), (right, len(whole)))

    def test_answers_are_read_whole(self) -> None:
        self.check(b"ab", "ab", "X-One: 1\r\nContent-Length: 2\r\n")
        self.check(b"2\r\nab\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", "ab0123456789abcdef", "X-One: 1\r\nTransfer-Encoding: chunked\r\n")
        packed = gzip.compress(b"ab")
        self.check(packed, "ab", f"X-One: 1\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n")
        with self.assertRaisesRegex(client.AnswerError, "x-one: '2', right is '1'"):
            self.check(b"ab", "ab", "X-One: 2\r\nContent-Length: 2\r\n")


if __name__ == "__main__":
    unittest.main()
