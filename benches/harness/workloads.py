"""What `benches/parity` compares: backends, and the workloads that each of them gets. No process is started here."""

import dataclasses

from harness.rows import BACKENDS, ONE_BY_ONE, USER, Row, Shape

CONNECTIONS = (8, 64, 512)


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is repeated, and what answers it."""

    name: str
    title: str
    program: str
    """Either "platform", its example with a constant answer, or "turboapi", the `def` handler of apps/turbo_app.py."""
    shape: Shape = ONE_BY_ONE

    def row(self, backend: str) -> Row:
        """What the harness runs for one backend."""
        arguments = (backend, "PORT") if self.program == "platform" else ("turbo_app.py", "PORT")
        return Row(f"{self.name}-{backend}", USER, self.program, arguments, "", backend, self.shape)


FIXED, DEF = "fixed", "def"
WORKLOADS = (
    Workload(FIXED, "fixed answer, the platform alone", "platform"),
    Workload(DEF, "def handler", "turboapi"),
    Workload("pipelined", "def handler, 16 requests at once", "turboapi", Shape(depth=16)),
    Workload("reconnect", "def handler, a connection per 10 requests", "turboapi", Shape(requests_per_connection=10)),
)


def backends(system: str) -> tuple[str, ...]:
    """Those that a build on this system can have; which it has, is seen when it is asked for."""
    return BACKENDS if system == "Linux" else ("kqueue",)
