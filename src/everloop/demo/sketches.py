"""The silhouettes of things, one a category, drawn with polygons so that they can be turned, mirrored and stretched.

A sketch draws in a square from -1 to 1, x to the right and y downwards, whatever the picture's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, pi, radians, sin

from PIL import Image, ImageDraw

from everloop.demo.looks import Look, Rgb, shade

Point = tuple[float, float]

_CREAM: Rgb = (236, 226, 206)
_GLOW: Rgb = (255, 178, 70)
_LAMP: Rgb = (255, 232, 150)
_STEEL: Rgb = (196, 202, 208)
_RUBBER: Rgb = (58, 56, 60)
_CIRCLE = [(cos(2 * pi * k / 20), sin(2 * pi * k / 20)) for k in range(20)]


class Pen:
    """Draws on a picture in the sketch's coordinates; the pose says how those lie in the picture."""

    def __init__(
        self,
        picture: Image.Image,
        *,
        tilt_deg: float,
        wide: float,
        tall: float,
        is_mirrored: bool,
        shift: Point,
    ) -> None:
        self._draw = ImageDraw.Draw(picture)
        self._unit = picture.width / 2
        turn = radians(tilt_deg)
        flip = -1.0 if is_mirrored else 1.0
        self._x = (
            wide * flip * cos(turn) * self._unit,
            -tall * sin(turn) * self._unit,
            (1 + shift[0]) * self._unit,
        )
        self._y = (
            wide * flip * sin(turn) * self._unit,
            tall * cos(turn) * self._unit,
            (1 + shift[1]) * self._unit,
        )

    def shape(self, points: Sequence[Point], fill: Rgb, edge: Rgb | None = None) -> None:
        """A closed shape, with a line around it if `edge` is given."""
        placed = self._placed(points)
        self._draw.polygon(placed, fill=fill)
        if edge:
            self._draw.line([*placed, placed[0]], fill=edge, width=2)

    def oval(self, x: float, y: float, wide: float, tall: float, fill: Rgb, edge: Rgb | None = None) -> None:
        self.shape([(x + wide * a, y + tall * b) for a, b in _CIRCLE], fill, edge)

    def box(
        self, left: float, top: float, right: float, bottom: float, fill: Rgb, edge: Rgb | None = None
    ) -> None:
        """A rectangle whose corners are a little rounded."""
        r = min(right - left, bottom - top) * 0.18
        xs, ys = (left, left + r, right - r, right), (top, top + r, bottom - r, bottom)
        corners = [(1, 0), (2, 0), (3, 1), (3, 2), (2, 3), (1, 3), (0, 2), (0, 1)]
        self.shape([(xs[i], ys[j]) for i, j in corners], fill, edge)

    def line(self, points: Sequence[Point], fill: Rgb, *, width: float) -> None:
        self._draw.line(self._placed(points), fill=fill, width=max(1, round(width * self._unit)))

    def texture(self, look: Look, left: float, top: float, right: float, bottom: float) -> None:
        """The look's stripes, dots, quilting or check over a rectangle of its body."""
        light, dark = shade(look.body, 1.3), shade(look.body, 0.78)
        across = [top + (bottom - top) * k / 4 for k in (1, 2, 3)]
        match look.texture:
            case "stripes":
                for y in across:
                    self.line([(left, y), (right, y)], light, width=0.07)
            case "quilt":
                for y in across:
                    self.line([(left, y), (right, y)], dark, width=0.04)
            case "check":
                for k, y in enumerate(across):
                    x = left + (right - left) * (k + 1) / 4
                    self.line([(left, y), (right, y)], light, width=0.04)
                    self.line([(x, top), (x, bottom)], light, width=0.04)
            case "dots":
                for k in range(6):
                    x = left + (right - left) * (k % 3 + 0.75 + 0.5 * (k // 3)) / 3.5
                    self.oval(x, top + (bottom - top) * (0.3 + 0.4 * (k // 3)), 0.07, 0.07, light)

    def _placed(self, points: Sequence[Point]) -> list[Point]:
        (a, b, c), (d, e, f) = self._x, self._y
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in points]


def _arc(x: float, y: float, wide: float, tall: float, start_deg: float, stop_deg: float) -> list[Point]:
    turns = [radians(start_deg + (stop_deg - start_deg) * k / 8) for k in range(9)]
    return [(x + wide * cos(turn), y + tall * sin(turn)) for turn in turns]


def _kettle(pen: Pen, look: Look) -> None:
    if look.variant == 0:  # swan neck
        pen.line([(-0.42, 0.3), (-0.74, 0.15), (-0.68, -0.3), (-0.92, -0.45)], look.edge, width=0.11)
    else:
        pen.shape([(-0.38, 0.1), (-0.9, -0.42), (-0.76, -0.52), (-0.3, -0.3)], look.body, look.edge)
    pen.line(_arc(0.45, 0, 0.42, 0.36, -80, 80), look.accent, width=0.13)
    pen.shape([(-0.36, -0.42), (0.36, -0.42), (0.56, 0.55), (-0.56, 0.55)], look.body, look.edge)
    pen.texture(look, -0.4, -0.2, 0.4, 0.5)
    pen.oval(0, -0.42, 0.37, 0.12, shade(look.body, 0.8), look.edge)
    pen.oval(0, -0.57, 0.09, 0.09, look.accent)
    pen.box(-0.62, 0.54, 0.62, 0.7, look.accent)


def _pan(pen: Pen, look: Look) -> None:
    if look.variant == 0:  # from the side
        pen.line([(0.4, -0.02), (1.0, -0.22)], look.accent, width=0.13)
        pen.shape([(-0.85, -0.12), (0.48, -0.12), (0.3, 0.3), (-0.68, 0.3)], look.body, look.edge)
        pen.oval(-0.19, -0.12, 0.67, 0.1, shade(look.body, 0.7), look.edge)
        return
    pen.line([(0.3, 0), (1.0, 0)], look.accent, width=0.15)
    pen.oval(-0.28, 0, 0.6, 0.6, look.body, look.edge)
    pen.oval(-0.28, 0, 0.48, 0.48, shade(look.body, 0.72))
    if look.variant == 2:  # with a glass lid
        pen.oval(-0.28, 0, 0.46, 0.46, _STEEL, look.edge)
        pen.oval(-0.28, 0, 0.1, 0.1, look.accent)


def _mug(pen: Pen, look: Look) -> None:
    pen.line(_arc(0.38, 0.05, 0.36, 0.3, -85, 85), look.edge, width=0.14)
    narrow = 0.08 if look.variant == 1 else 0.0
    pen.shape(
        [(-0.55, -0.5), (0.42, -0.5), (0.42 - narrow, 0.62), (-0.55 + narrow, 0.62)], look.body, look.edge
    )
    pen.texture(look, -0.5, -0.35, 0.37, 0.55)
    pen.oval(-0.065, -0.5, 0.48, 0.13, shade(look.body, 0.66), look.edge)


def _tower(pen: Pen, look: Look, slats: Rgb) -> None:
    pen.oval(0, 0.82, 0.42, 0.11, look.edge)
    pen.box(-0.26, -0.9, 0.26, 0.8, look.body, look.edge)
    for k in range(7):
        pen.line([(-0.15, -0.7 + 0.17 * k), (0.15, -0.7 + 0.17 * k)], slats, width=0.06)


def _fan(pen: Pen, look: Look) -> None:
    if look.variant == 0:
        _tower(pen, look, look.edge)
        return
    pen.line([(0, 0.3), (0, 0.8)], look.edge, width=0.1)
    pen.oval(0, 0.82, 0.4, 0.11, look.body, look.edge)
    pen.oval(0, -0.2, 0.64, 0.64, shade(look.body, 1.12), look.edge)
    blades = 3 + look.variant
    for k in range(blades):
        turn = 360 * k / blades
        pen.shape([(0, -0.2), *_arc(0, -0.2, 0.54, 0.54, turn, turn + 200 / blades)], shade(look.body, 0.78))
    pen.oval(0, -0.2, 0.13, 0.13, look.accent)


def _heater(pen: Pen, look: Look) -> None:
    if look.variant == 0:
        _tower(pen, look, _GLOW)
        return
    fins = 5 + look.variant
    step = 1.5 / fins
    pen.box(-0.72, 0.5, -0.5, 0.75, _RUBBER)
    pen.box(0.5, 0.5, 0.72, 0.75, _RUBBER)
    for k in range(fins):
        left = -0.75 + step * k
        pen.box(left, -0.55, left + step * 0.82, 0.6, look.body, look.edge)
    pen.box(0.5, -0.3, 0.78, 0.15, look.accent)
    pen.oval(0.64, -0.08, 0.08, 0.08, _GLOW)


def _sandal(pen: Pen, look: Look) -> None:
    pen.line(_arc(0.38, 0.35, 0.3, 0.34, 180, 360), look.body, width=0.17)
    pen.line(_arc(-0.1, 0.35, 0.24, 0.3, 180, 360), look.body, width=0.15)
    if look.variant:  # a strap round the heel
        pen.line([(-0.82, 0.3), (-0.72, -0.22), (-0.3, -0.12), (-0.2, 0.1)], look.edge, width=0.12)
    pen.shape([(-0.92, 0.3), (0.85, 0.34), (0.95, 0.46), (0.85, 0.56), (-0.9, 0.56)], _CREAM, look.edge)
    pen.line([(-0.9, 0.56), (0.85, 0.56)], _RUBBER, width=0.09)


def _sole(pen: Pen) -> None:
    pen.shape([(-0.88, 0.36), (0.92, 0.36), (0.9, 0.54), (-0.88, 0.54)], _RUBBER)
    for k in range(6):
        pen.box(-0.85 + 0.3 * k, 0.5, -0.68 + 0.3 * k, 0.63, _RUBBER)


def _trail_shoe(pen: Pen, look: Look) -> None:
    top = -0.42 if look.variant == 2 else -0.16  # the third covers the ankle
    upper = [
        (-0.85, 0.38),
        (-0.8, top),
        (-0.34, top - 0.06),
        (-0.14, 0.02),
        (0.4, 0.08),
        (0.84, 0.2),
        (0.9, 0.38),
    ]
    pen.shape(upper, look.body, look.edge)
    pen.shape([(0.46, 0.38), (0.52, 0.12), (0.84, 0.2), (0.9, 0.38)], shade(look.body, 0.7))
    for k in range(3):
        pen.line([(-0.16 + 0.16 * k, 0.03), (-0.06 + 0.16 * k, 0.2)], _CREAM, width=0.05)
    pen.oval(-0.58, top, 0.24, 0.07, shade(look.body, 0.6))
    _sole(pen)


def _winter_boot(pen: Pen, look: Look) -> None:
    top = -0.5 if look.variant == 0 else -0.75  # the first is no taller than some trail shoes
    upper = [(-0.8, 0.38), (-0.72, top), (-0.12, top), (-0.06, 0.02), (0.4, 0.06), (0.84, 0.18), (0.9, 0.38)]
    pen.shape(upper, look.body, look.edge)
    pen.line([(-0.74, -0.1), (-0.1, -0.1)], look.edge, width=0.06)
    if look.variant:
        for k in range(4):
            pen.oval(-0.68 + 0.17 * k, top, 0.13, 0.12, _CREAM)
    else:
        for k in range(3):
            pen.line([(-0.16 + 0.14 * k, 0.0), (-0.08 + 0.14 * k, 0.16)], _CREAM, width=0.05)
    _sole(pen)


def _garment(pen: Pen, look: Look, *, hem: float, sleeve: float) -> None:
    for side in (-1, 1):
        arm = [(0.3, -0.5), (0.5, -0.42), (0.88, 0.3), (0.88 - sleeve, 0.42), (0.4, -0.05)]
        pen.shape([(side * x, y) for x, y in arm], shade(look.body, 0.88), look.edge)
    pen.shape([(-0.42, -0.5), (0.42, -0.5), (0.5, hem), (-0.5, hem)], look.body, look.edge)
    pen.texture(look, -0.44, -0.3, 0.44, hem)


def _rain_jacket(pen: Pen, look: Look) -> None:
    _garment(pen, look, hem=0.55, sleeve=0.24)
    pen.shape([(-0.3, -0.42), (-0.26, -0.8), (0.0, -0.95), (0.26, -0.8), (0.3, -0.42)], look.body, look.edge)
    pen.oval(0, -0.6, 0.16, 0.2, shade(look.body, 0.5))
    pen.line([(0, -0.4), (0, 0.55)], look.accent, width=0.06)
    for side in (-0.24, 0.24):
        pen.line([(side - 0.1, 0.25), (side + 0.1, 0.2)], look.edge, width=0.05)


def _winter_coat(pen: Pen, look: Look) -> None:
    _garment(pen, look, hem=0.6 if look.variant == 0 else 0.95, sleeve=0.3)
    pen.oval(0, -0.62, 0.34, 0.32, _CREAM if look.variant else look.body, look.edge)
    pen.oval(0, -0.58, 0.17, 0.2, shade(look.body, 0.5))
    pen.line([(0.06, -0.35), (0.06, 0.6)], look.edge, width=0.06)
    for y in (-0.15, 0.1, 0.35):
        pen.oval(-0.06, y, 0.05, 0.05, look.accent)


def _tent(pen: Pen, look: Look) -> None:
    ground = 0.6
    for side in (-1, 1):
        pen.line([(side * 0.5, 0.0), (side * 1.0, ground + 0.05)], look.edge, width=0.03)
    if look.variant == 0:  # a ridge tent
        pen.shape([(-0.85, ground), (0, -0.65), (0.85, ground)], look.body, look.edge)
    else:
        pen.shape(_arc(0, ground, 0.88, 1.0, 180, 360), look.body, look.edge)
        pen.line(_arc(0, ground, 0.45, 1.0, 180, 360), shade(look.body, 1.25), width=0.05)
    pen.shape([(-0.26, ground), (0, -0.25), (0.26, ground)], shade(look.body, 0.5))
    pen.shape([(0, -0.25), (0.26, ground), (0.36, ground)], look.accent)


def _lantern(pen: Pen, look: Look) -> None:
    pen.line(_arc(0, -0.55, 0.34, 0.38, 180, 360), look.edge, width=0.06)
    pen.box(-0.34, -0.32, 0.34, 0.5, _LAMP, look.edge)
    pen.oval(0, 0.12, 0.16, 0.24, _GLOW)
    for x in (-0.34, 0.34) if look.variant else (-0.34, 0, 0.34):
        pen.line([(x, -0.35), (x, 0.5)], look.edge, width=0.06)
    pen.shape([(-0.2, -0.66), (0.2, -0.66), (0.44, -0.32), (-0.44, -0.32)], look.body, look.edge)
    pen.box(-0.48, 0.46, 0.48, 0.76, look.body, look.edge)


def _backpack(pen: Pen, look: Look) -> None:
    pen.line(_arc(0, -0.7, 0.16, 0.2, 180, 360), look.edge, width=0.08)
    for side in (-1, 1):
        pen.line(_arc(side * 0.5, 0.05, side * 0.2, 0.5, -90, 90), look.accent, width=0.1)
    body = [*_arc(0, -0.3, 0.52, 0.5, 180, 360), (0.56, 0.72), (-0.56, 0.72)]
    pen.shape(body, look.body, look.edge)
    pen.texture(look, -0.48, -0.5, 0.48, 0.1)
    if look.variant == 0:
        pen.shape([(-0.52, -0.35), (0.52, -0.35), (0.3, 0.05), (-0.3, 0.05)], look.accent, look.edge)
    pen.box(-0.38, 0.15, 0.38, 0.62, shade(look.body, 0.84), look.edge)
    pen.line([(-0.3, 0.28), (0.3, 0.28)], look.accent, width=0.05)


def _cool_bag(pen: Pen, look: Look) -> None:
    pen.line(_arc(0, -0.3, 0.45, 0.45, 180, 360), look.edge, width=0.1)
    pen.box(-0.78, -0.25, 0.78, 0.62, look.body, look.edge)
    pen.texture(look, -0.7, -0.15, 0.7, 0.6)
    pen.box(-0.82, -0.42, 0.82, -0.18, shade(look.body, 0.8) if look.variant else _CREAM, look.edge)
    for turn in (0, 60, 120):  # a snowflake
        x, y = 0.2 * cos(radians(turn)), 0.2 * sin(radians(turn))
        pen.line([(-x, 0.2 - y), (x, 0.2 + y)], (250, 250, 252), width=0.05)


SKETCHES: dict[str, Callable[[Pen, Look], None]] = {
    "Kettles": _kettle, "Pans": _pan, "Mugs": _mug, "Fans": _fan, "Heaters": _heater, "Sandals": _sandal,
    "Trail Shoes": _trail_shoe, "Winter Boots": _winter_boot, "Rain Jackets": _rain_jacket,
    "Winter Coats": _winter_coat, "Tents": _tent, "Lanterns": _lantern, "Backpacks": _backpack,
    "Cool Bags": _cool_bag,
}  # fmt: skip


def carton(pen: Pen, look: Look) -> None:
    """The closed carton that a lazy merchant photographs instead of the thing: it could hold anything."""
    card: Rgb = (186, 146, 100)
    pen.shape([(-0.7, -0.3), (0.3, -0.3), (0.3, 0.65), (-0.7, 0.65)], card, shade(card, 0.7))
    pen.shape([(0.3, -0.3), (0.75, -0.55), (0.75, 0.35), (0.3, 0.65)], shade(card, 0.82), shade(card, 0.7))
    pen.shape([(-0.7, -0.3), (-0.25, -0.55), (0.75, -0.55), (0.3, -0.3)], shade(card, 1.12), shade(card, 0.7))
    pen.box(-0.5, 0.1, 0.1, 0.4, _CREAM)
    pen.line([(-0.42, 0.25), (0.02, 0.25)], look.edge, width=0.06)
