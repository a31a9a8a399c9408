"""Asks the example app for one answer of each kind and has httplint judge it. Run by `ci/httplint`, in httplint's own environment:
`answers.py PYTHON` starts the app with that Python, `answers.py PORT` asks one that runs.

Nothing may be BAD. A WARN must stand in EXCUSED with its reason; what is excused and does not come any more is an error too.
"""

import pathlib
import socket
import subprocess
import sys
import time

from httplint.message import HttpRequestLinter, HttpResponseLinter
from httplint.note import levels

#: (method, target, status). One answer of each kind.
REQUESTS = [
    ("GET", "/", 200),
    ("GET", "/users/1", 200),
    ("GET", "/async/users/1", 200),
    ("GET", "/items/1", 200),
    ("GET", "/items/7", 404),
    ("GET", "/nowhere", 404),
    ("GET", "/users/abc", 422),
    ("POST", "/users/1", 405),
    ("HEAD", "/users/1", 405),
    ("HEAD", "/docs", 200),
    ("HEAD", "/openapi.json", 200),
    ("GET", "/users/1/", 307),
    ("GET", "/countdown", 200),
    ("GET", "/docs", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/error", 500),
    ("GET", "*", 400),  # a refusal of the server's own: this target is for OPTIONS
]

#: Notes of level WARN that are the app's affair or ours here: by the note's name, why.
EXCUSED = {
    "STATUS_BAD_REQUEST": "one request is bad on purpose",
}


def main(port: int) -> int:
    """Judges all of them; returns the exit code."""
    failures, seen = 0, set()
    for method, target, expected in REQUESTS:
        shown = f"{method} {target}"
        status, notes = ask(port, method, target)
        if status != expected:
            print(f"{shown}: status is {status}, expected {expected}")
            failures += 1
        for note in notes:
            name = type(note).__name__
            if note.level not in (levels.BAD, levels.WARN):
                continue
            seen.add(name)
            if note.level is levels.BAD or name not in EXCUSED:
                print(f"{shown}: {note.level.name} {name}: {note.summary} ({note.subject})")
                failures += 1
    for name in EXCUSED.keys() - seen:
        print(f"{name} is excused and does not come any more")
        failures += 1
    print(f"{len(REQUESTS)} answers, {failures} failures, excused: {', '.join(sorted(EXCUSED)) or 'none'}")
    return 1 if failures else 0


def ask(port: int, method: str, target: str) -> tuple[int, list]:
    """One request on a connection of its own: the status, and what httplint notes about the answer."""
    started = time.time()
    lines = [(b"Host", b"127.0.0.1"), (b"Connection", b"close")]
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.sendall(b"".join([f"{method} {target} HTTP/1.1\r\n".encode(), *[b"%s: %s\r\n" % line for line in lines], b"\r\n"]))
        data = b""
        while part := peer.recv(1 << 16):
            data += part
    head, _, content = data.partition(b"\r\n\r\n")
    top, *fields = head.split(b"\r\n")
    version, status, reason = top.split(b" ", 2)
    headers = [tuple(field.split(b":", 1)) for field in fields]
    request = HttpRequestLinter()
    request.process_request_topline(method.encode(), f"http://127.0.0.1:{port}{target}".encode(), b"1.1")
    request.process_headers(lines)
    request.finish_content(True)
    answer = HttpResponseLinter(start_time=started, _related=request, no_content=method == "HEAD")
    answer.process_response_topline(version.removeprefix(b"HTTP/"), status, reason)
    answer.process_headers(headers)
    if any(name.lower() == b"transfer-encoding" for name, _ in headers) and method != "HEAD":
        content = unchunked(content)
    answer.feed_content(content)
    answer.finish_content(True)
    return int(status), list(answer.notes)


def unchunked(data: bytes) -> bytes:
    """The content of a chunked body."""
    content = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        content, data = content + data[:count], data[count + 2 :]
        if count == 0:
            return content


def serve(python: str) -> int:
    """Starts the example app and judges its answers; returns the exit code."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "examples/multi_route_app.py", "--port", str(port), "--workers", "1"]
    folder = pathlib.Path(__file__).parent.parent / "python"
    # What it logs is on purpose: one of the requests raises.
    server = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return main(port)
            except ConnectionRefusedError:
                if server.poll() is not None or time.monotonic() > deadline:
                    print("the example app did not start")
                    return 1
                time.sleep(0.05)
    finally:
        server.terminate()
        server.wait(40)


if __name__ == "__main__":
    argument = sys.argv[1]
    raise SystemExit(main(int(argument)) if argument.isdigit() else serve(argument))
