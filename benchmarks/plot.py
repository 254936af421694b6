"""A plot as SVG: lines over two logarithmic axes, for the documentation. No program is needed to draw it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 50, 50
#: Distinct for the colour-blind (Okabe and Ito), the first for ours.
COLOURS = ("#0072b2", "#000000", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
FONT = 'font-family="sans-serif" font-size="13"'
#: Names at the lines' ends must not lie on each other.
NAME_HEIGHT = 16


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    points: Sequence[tuple[float, float]]


def draw(title: str, across: str, up: str, series: Sequence[Series]) -> str:
    xs = [x for each in series for x, _ in each.points]
    ys = [y for each in series for _, y in each.points]
    low, high = _ticks(ys)[0], _ticks(ys)[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * _part(x, min(xs), max(xs)),
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _part(y, low, high),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT} role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="28" font-size="16" font-weight="bold">{escape(title)} ({escape(up)})</text>',
    ]
    for tick in _ticks(ys):
        _, y = place(min(xs), tick)
        parts += [
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>',
        ]
    for x in sorted(set(xs)):
        left, _ = place(x, low)
        parts.append(f'<text x="{left:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{x:,.0f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    names = []
    for number, each in enumerate(series):
        colour, width = COLOURS[number % len(COLOURS)], 3 if number == 0 else 1.8
        dots = [place(*point) for point in each.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in dots]
        names.append((dots[-1][1], each.name, colour))
    last = -math.inf
    for y, name, colour in sorted(names):
        last = max(y + 4, last + NAME_HEIGHT)
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{last:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _part(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low) if high > low else 0.5


def _ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 of each power of ten, from just below the least to just above the most."""
    every = [
        step * 10.0**power
        for power in range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
        for step in (1, 2, 5)
    ]
    below = [tick for tick in every if tick <= min(values)][-1:]
    above = [tick for tick in every if tick >= max(values)][:1]
    return [*below, *(tick for tick in every if below[0] < tick < above[0]), *above]
