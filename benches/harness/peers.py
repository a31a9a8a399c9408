"""The programs that rows run on: the peers' environment, made once outside the repo, and the fixed answer's binary."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess

from harness.rows import BENCHES

REQUIREMENTS = BENCHES / "requirements.txt"
PYTHON_MIN = (3, 12)


class SetupError(Exception):
    """Something that the run needs is not on this machine; the message says what to do."""


def folder() -> pathlib.Path:
    """Where the peers live: one folder for each content of requirements.txt."""
    cache = pathlib.Path(os.environ.get("TURBOAPI_CACHE") or "~/.cache/turboapi").expanduser()
    return cache / f"bench-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]}"


def python() -> pathlib.Path | None:
    """The peers' Python, or None before `set_up` has run to its end."""
    return folder() / "bin/python" if (folder() / "ready").exists() else None


def set_up(base: str | None) -> pathlib.Path:
    """Makes the environment, anew.

    Args:
        base: The Python to make it from; None finds one.
    Returns:
        Its Python.
    Raises:
        SetupError: No Python is new enough, or nothing at all could be installed.
    """
    source = base or find_python()
    if python_version(source) < PYTHON_MIN:
        raise SetupError(f"{source} is not a Python that runs, or is older than 3.12")
    where = folder()
    shutil.rmtree(where, ignore_errors=True)
    subprocess.run([source, "-m", "venv", str(where)], check=True)
    install = [str(where / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*install, "-r", str(REQUIREMENTS)]).returncode:
        # One peer without a wheel for this Python must not cost the others: their rows say that they are missing.
        lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
        failed = [line for line in lines if subprocess.run([*install, line]).returncode]
        print(f"not installed: {', '.join(failed)}")
        if len(failed) == len(lines):
            raise SetupError("no peer could be installed, see pip's messages above")
    (where / "ready").touch()
    return where / "bin/python"


def find_python() -> str:
    """The newest ordinary Python from PATH or pyenv's folder that is new enough."""
    names = [shutil.which(f"python3.{minor}") for minor in (14, 13, 12)] + [shutil.which("python3")]
    names += [str(path) for path in pathlib.Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python3")]
    found = {name: python_version(name) for name in names if name}
    best = max(found, key=lambda name: found[name], default="")
    if not best or found[best] < PYTHON_MIN:
        raise SetupError("no Python of 3.12 or later on PATH or under ~/.pyenv: name one with --peers-python PATH")
    return best


def python_version(name: str) -> tuple[int, ...]:
    """Its version; (0,) where it does not run, as pyenv's shims of versions that are switched off."""
    try:
        run = subprocess.run([name, "-c", "import sys; print(*sys.version_info[:3])"], capture_output=True, text=True)
    except OSError:
        return (0,)
    return tuple(int(part) for part in run.stdout.split()) if run.returncode == 0 else (0,)


def versions(name: str) -> dict[str, str]:
    """What a Python and its packages are, for the record under the table."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "v = {'python': sys.version.split()[0] + ('' if getattr(sys, '_is_gil_enabled', lambda: True)() else ' free-threaded')}\n"
        "for p in ('turboapi', 'fastapi', 'pydantic', 'uvicorn', 'httptools', 'uvloop', 'granian', 'robyn'):\n"
        "    try: v[p] = m.version(p)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(v))"
    )
    run = subprocess.run([name, "-c", code], capture_output=True, text=True)
    return json.loads(run.stdout) if run.returncode == 0 else {}


def has_module(name: str, module: str) -> bool:
    """Whether this Python can import it."""
    run = subprocess.run([name, "-c", f"import {module}"], capture_output=True, cwd="/")
    return run.returncode == 0


def build(package: str, example: str = "") -> pathlib.Path:
    """Builds a program of this repository, or an example, as a release.

    Raises:
        SetupError: With cargo's last line.
    """
    command = ["cargo", "build", "--release", "--package", package, "--message-format", "json-render-diagnostics"]
    command += ["--example", example] if example else []
    try:
        run = subprocess.run(command, cwd=BENCHES.parent, capture_output=True, text=True)
    except FileNotFoundError:
        raise SetupError("cargo is not on PATH") from None
    messages = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    found = [message["executable"] for message in messages if message.get("executable")]
    if run.returncode or not found:
        errors = [line for line in run.stderr.splitlines() if line.strip()]
        raise SetupError(f"cargo build -p {package}: {errors[-1].strip() if errors else 'no program came of it'}")
    return pathlib.Path(found[-1])
