"""The picture for benches/README.md: a panel for each workload, medians as bars, lowest and highest round as whiskers."""

import statistics
from xml.sax.saxutils import escape

from harness.parity import Costs, measured_backends
from harness.workloads import Workload

PANEL_WIDTH, PANEL_HEIGHT, PLOT_HEIGHT = 470, 270, 170
LEFT, TOP, HEAD = 52, 50, 66
# Okabe and Ito's colours: told apart by those who see red and green alike, and clear on white and on black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2328}.quiet{fill:#59636e}.grid{stroke:#d1d9e0}.whisker{stroke:#1f2328;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.quiet{fill:#9198a1}.grid{stroke:#3d444d}.whisker{stroke:#f0f6fc}}"
)


def svg(figures: Costs, workloads: tuple[Workload, ...], title: str) -> str:
    """A whole file. The background is left out, and so is the reader's."""
    shown = [workload for workload in workloads if any(key[0] == workload.name for key in figures)]
    backends = measured_backends(figures)
    colours = dict(zip(backends, COLOURS, strict=False))
    columns = min(2, max(1, len(shown)))
    width, height = columns * PANEL_WIDTH, HEAD + PANEL_HEIGHT * -(-len(shown) // columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        text(LEFT, 20, "server CPU per request, µs: median, lowest and highest round", "start", bold=True),
    ]
    for number, backend in enumerate(backends):
        x = LEFT + number * 110
        parts += [f'<rect x="{x}" y="34" width="12" height="12" fill="{colours[backend]}"/>', text(x + 18, 45, backend, "start")]
    for number, workload in enumerate(shown):
        x, y = number % columns * PANEL_WIDTH, HEAD + number // columns * PANEL_HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *panel(figures, workload, backends, colours), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(figures: Costs, workload: Workload, backends: list[str], colours: dict[str, str]) -> list[str]:
    """One workload: a group of bars for each number of connections."""
    of_workload = {(count, backend): rounds for (name, count, backend), rounds in figures.items() if name == workload.name}
    counts = sorted({count for count, _ in of_workload})
    step = nice_step(max(max(rounds) for rounds in of_workload.values()))
    top = step * 5
    right, base = PANEL_WIDTH - 14, TOP + PLOT_HEIGHT

    def height(value: float) -> float:
        return base - value / top * PLOT_HEIGHT

    parts = [text(LEFT, 30, workload.title, "start", bold=True)]
    for line in range(6):
        y = height(line * step)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(LEFT - 6, y + 4, f"{line * step:g}", "end", quiet=True))
    group = (right - LEFT) / len(counts)
    bar = min(36.0, group * 0.8 / len(backends))
    for number, count in enumerate(counts):
        middle = LEFT + group * (number + 0.5)
        parts.append(text(middle, base + 34, f"{count} connections", "middle", quiet=True))
        for place, backend in enumerate(backends):
            if rounds := of_workload.get((count, backend)):
                x = middle + (place - len(backends) / 2) * bar
                y, centre = height(statistics.median(rounds)), x + bar / 2
                parts.append(
                    f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{bar - 2:.1f}" height="{base - y:.1f}" fill="{colours[backend]}">'
                    f"<title>{escape(backend)}: {statistics.median(rounds):.2f} µs ({min(rounds):.2f}–{max(rounds):.2f})</title></rect>"
                )
                low, high = height(min(rounds)), height(max(rounds))
                for x1, x2, y1, y2 in ((0, 0, low, high), (-4, 4, low, low), (-4, 4, high, high)):
                    parts.append(f'<line class="whisker" x1="{centre + x1:.1f}" x2="{centre + x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>')
                parts.append(text(centre, base + 16, backend, "middle", quiet=True))
    return parts


def nice_step(highest: float) -> float:
    """A fifth of the axis: 1, 2, 2.5 or 5 times a power of ten."""
    step = 10.0**-3
    while True:
        for factor in (1, 2, 2.5, 5):
            if step * factor * 5 >= highest:
                return step * factor
        step *= 10


def text(x: float, y: float, words: str, anchor: str, bold: bool = False, quiet: bool = False) -> str:
    """One line of text."""
    extra = (' font-weight="600"' if bold else "") + (' class="quiet"' if quiet else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'
