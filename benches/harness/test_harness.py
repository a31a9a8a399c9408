"""The harness must fail when it should: `python3 -m unittest harness.test_harness`, from benches/. The last test needs wrk."""

import os
import pathlib
import shutil
import sys
import unittest
from unittest import mock

from harness import client, measure, report, rows, server, wrk

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
    def check(self, fails: bool, calls: int = 1000, octets: int = 100, row: str = "fixed") -> None:
        of_name = next(candidate for candidate in rows.ROWS if candidate.name == row)
        with self.subTest(calls=calls, octets=octets, row=row):
            if fails:
                self.assertRaises(measure.CountError, measure.check_counts, of_name, LOAD, calls, octets, 64)
            else:
                measure.check_counts(of_name, LOAD, calls, octets, 64)

    def test_counts(self) -> None:
        self.check(False)
        self.check(False, calls=1064)  # one in flight on each connection
        self.check(True, calls=999)
        self.check(True, calls=1065)
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

        def run(port: int, request: rows.Request, core: int, connections: int, seconds: int, compares: bool) -> wrk.Load:
            return original(port, request, core, connections, seconds, compares and self.compares)

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


class Answers(unittest.TestCase):
    def test_a_wrong_answer_is_named(self) -> None:
        with mock.patch.object(client, "ask", return_value=client.Answer(200, '{"user_id":"123"}', 1)):
            self.assertRaisesRegex(client.AnswerError, "right is 200", client.check, 1, rows.USER)


if __name__ == "__main__":
    unittest.main()
