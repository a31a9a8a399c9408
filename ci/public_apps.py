"""Public FastAPI apps, and how many of their routes are native. Run by `ci/public-apps`: `public_apps.py [--check PERCENT] [NAME...]`.

Each has an environment of its own, of `ci/isolated`, and this checkout's package on PYTHONPATH. Those that are no MODULE:APP by
themselves have a few lines in public/.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from typing import Any

from listed_routes import is_counted, kind_of

REPOSITORY = pathlib.Path(__file__).parent.parent
#: Of one app's `turboapi routes`, on a machine under load: nearly all of it goes to imports.
SECONDS = 900
#: How many of an app's reasons are printed.
REASONS = 3


@dataclass(frozen=True)
class App:
    name: str
    requirements: tuple[str, ...]
    """Empty: it is on no package index."""
    target: str
    """MODULE:APP, with what else `turboapi routes` is to be told."""
    is_judged: bool = False
    """`--check` asks for a share of its routes."""
    overrides: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


#: Without this the index would give an older release of the app than the pinned one, or an older FastAPI than is supported.
FASTAPI = "fastapi>=0.141"

APPS = [
    App(
        "LiteLLM's proxy",
        ("litellm[proxy]==1.108.7", FASTAPI),
        "litellm.proxy.proxy_server:app",
        is_judged=True,
        # Else it waits for a table that it fetches.
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    ),
    App("Prefect", ("prefect==3.9.1", FASTAPI), "prefect.server.api.server:create_app --factory", is_judged=True),
    App("MLflow", ("mlflow==3.17.2", FASTAPI), "mlflow.server.fastapi_app:app", is_judged=True),
    # It asks for fastapi<0.137, and its Cadwyn does not import with 0.165.
    App(
        "Airflow",
        ("apache-airflow==3.3.2",),
        "airflow.api_fastapi.app:create_app --factory",
        is_judged=True,
        overrides=("fastapi==0.141.1",),
    ),
    # No requirement by a guessed name: whoever takes that name on the index could have us run anything.
    App("full-stack template", (), "app.main:app", is_judged=True),
    App("Chroma", ("chromadb==1.5.9", "opentelemetry-instrumentation-fastapi", FASTAPI), "chromadb.app:app"),
    App("TiTiler", ("titiler.application==2.4.0", FASTAPI), "titiler.application.main:app"),
    App("LangServe", ("langserve[server]==0.3.3", FASTAPI), "langserve_app:app"),
    App("Phoenix", ("arize-phoenix==20.26.1", FASTAPI), "phoenix_app:app"),
    App("Gradio", ("gradio==6.31.0", FASTAPI), "gradio_app:app"),
    App("NiceGUI", ("nicegui==3.18.0", FASTAPI), "nicegui:app"),
    App("SQLAdmin", ("sqladmin==0.32.0", "greenlet", FASTAPI), "sqladmin_app:app"),
    App("Google ADK", ("google-adk==2.13.0", FASTAPI), "adk_app:app"),
]


class NotLookedAt(Exception):
    """Its message says what is the matter with the app, in one line."""


def main() -> int:
    """Prints a row for each app and the reasons of all; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", type=float, metavar="PERCENT")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    wanted = [app for app in APPS if not options.names or any(name.lower() in app.name.lower() for name in options.names)]
    print("app | functions | native | share | most frequent reasons\n--- | --- | --- | --- | ---", flush=True)
    everything: collections.Counter[str] = collections.Counter()
    missing, short = [], []
    for app in wanted:
        try:
            reasons = reasons_of(app)
        except NotLookedAt as error:
            missing.append(f"{app.name}: {error}")
            continue
        counted = collections.Counter(reason for reason in reasons if reason)
        everything += counted
        native = len(reasons) - counted.total()
        share = 100 * native / max(len(reasons), 1)
        frequent = ", ".join(f"{count} × {reason}" for reason, count in counted.most_common(REASONS))
        print(f"{app.name} | {len(reasons)} | {native} | {share:.1f} % | {frequent}", flush=True)
        if app.is_judged and options.check is not None and share < options.check:
            short.append(f"{app.name}: {share:.1f} % of its functions are native, {options.check:g} % wanted")
    print("\n".join(["", "reasons of all:", *(f"- {count} × {reason}" for reason, count in everything.most_common())]))
    print("\n".join([*(f"not looked at: {line}" for line in missing), *short]))
    return 1 if short or len(missing) == len(wanted) else 0


def reasons_of(app: App) -> list[str]:
    """For each route that is a function: why it is not native, or "".

    Raises:
        NotLookedAt: the app cannot be had, installed or imported.
    """
    if not app.requirements:
        raise NotLookedAt("is on no package index")
    overrides = [text for override in app.overrides for text in ("--override", override)]
    name = re.sub(r"\W+", "-", app.name.lower())
    made = run([REPOSITORY / "ci" / "isolated", name, *overrides, *app.requirements], dict(os.environ), ".")
    python = made.stdout.splitlines()[-1]
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("TURBOAPI_", "PYTHON"))},
            **app.environment,
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / folder) for folder in ("python", "ci/public")),
            "PYTHONDONTWRITEBYTECODE": "1",
            # What they keep and configure.
            "HOME": home,
            "AIRFLOW_HOME": f"{home}/airflow",
        }
        found = run([python, "-W", "ignore", "-m", "turboapi", "routes", "--json", *app.target.split()], environment, home)
    routes = listed(found.stdout)["routes"]
    return [kind_of(route["reason"]) for route in routes if is_counted(route["methods"], route["function"])]


def run(command: list[Any], environment: dict[str, str], folder: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("ci/")]
        raise NotLookedAt((said or ["no word"])[-1].strip())
    return done


def listed(text: str) -> Any:
    """What `--json` has printed, among what the app itself prints at import."""
    decoder = json.JSONDecoder()
    for start in re.finditer(r"^\{$", text, re.MULTILINE):
        try:
            return decoder.raw_decode(text, start.start())[0]
        except ValueError:
            continue
    raise NotLookedAt("`turboapi routes` has printed no table")


if __name__ == "__main__":
    sys.exit(main())
