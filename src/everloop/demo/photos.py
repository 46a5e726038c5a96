"""How merchants photograph: small JPEG pictures of products, with each merchant's background, angle and carelessness."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from everloop.demo.dice import Dice
from everloop.demo.looks import Look, Rgb, shade
from everloop.demo.sketches import SKETCHES, Pen, carton

SIDE = 48
"""Width and height of a photo in pixels."""

_DRAWN = 2 * SIDE  # drawn twice as large and reduced, which smooths the edges
_QUALITY = 85
_GRAINS = 8  # tiles of noise for each strength and light, made once and used in turn


@dataclass(frozen=True)
class Camera:
    """A merchant's way with photos; shares are of its listings, `light` and `grain` are in levels of 0 to 255."""

    scene: str
    wall: Rgb
    tilt_deg: float
    closeness: float
    mirrors: float
    cartons: float
    stickers: float
    crops: float
    light: int
    grain: int


def camera_of(dice: Dice) -> Camera:
    """The camera and studio of a new merchant."""
    walls: tuple[Rgb, ...] = (
        (252, 252, 252), (246, 244, 240), (226, 230, 234), (238, 228, 214), (214, 224, 232), (222, 232, 218),
    )  # fmt: skip
    return Camera(
        scene=dice.pick(("studio", "studio", "studio", "fading", "table", "meadow")),
        wall=dice.pick(walls),
        tilt_deg=dice.pick((3.0, 6.0, 12.0)),
        closeness=dice.between(0.66, 0.84),
        mirrors=dice.pick((0.0, 0.5, 1.0)),
        cartons=dice.pick((0.0, 0.03, 0.12)),
        stickers=dice.pick((0.0, 0.0, 0.4)),
        crops=dice.pick((0.0, 0.05, 0.15)),
        light=dice.pick((-30, -20, -10, 0, 0, 10)),
        grain=dice.pick((3, 6, 10)),
    )


def photo(look: Look, camera: Camera, dice: Dice) -> bytes:
    """A JPEG of SIDE x SIDE pixels that shows the product, or sometimes only its carton."""
    picture = _backdrop(camera.scene, camera.wall).copy()
    is_cropped = dice.chance(camera.crops)
    close = camera.closeness * (dice.between(1.3, 1.6) if is_cropped else dice.between(0.9, 1.08))
    reach = 0.3 if is_cropped else 0.08
    pen = Pen(
        picture,
        tilt_deg=dice.between(-camera.tilt_deg, camera.tilt_deg),
        wide=close * look.wide,
        tall=close * look.tall,
        is_mirrored=dice.chance(camera.mirrors),
        shift=(dice.between(-reach, reach), dice.between(-reach, reach)),
    )
    pen.oval(0, 0.78, 0.8, 0.12, shade(camera.wall, 0.9))  # a soft shadow
    (carton if dice.chance(camera.cartons) else SKETCHES[look.sketch])(pen, look)
    if dice.chance(camera.stickers):
        _put_sticker(picture, dice)
    return _developed(picture.reduce(2), camera, dice)


def _put_sticker(picture: Image.Image, dice: Dice) -> None:
    draw = ImageDraw.Draw(picture)
    x, y = dice.pick(((4, 4), (_DRAWN - 30, 4), (_DRAWN - 30, _DRAWN - 30)))
    draw.ellipse((x, y, x + 26, y + 26), fill=(214, 40, 52), outline=(250, 250, 250), width=2)
    draw.line((x + 8, y + 18, x + 18, y + 8), fill=(255, 255, 255), width=3)  # a per cent sign
    draw.ellipse((x + 7, y + 7, x + 11, y + 11), fill=(255, 255, 255))
    draw.ellipse((x + 15, y + 15, x + 19, y + 19), fill=(255, 255, 255))


def _developed(picture: Image.Image, camera: Camera, dice: Dice) -> bytes:
    light = camera.light + dice.pick((-10, 0, 10))
    grain = _grain(dice.below(_GRAINS), strength=camera.grain, light=light)
    buffer = BytesIO()
    ImageChops.add(picture, grain, 1.0, -128).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


@lru_cache(maxsize=64)
def _backdrop(scene: str, wall: Rgb) -> Image.Image:
    picture = Image.new("RGB", (_DRAWN, _DRAWN), wall)
    draw = ImageDraw.Draw(picture)
    floor: Rgb = {"table": (196, 160, 118), "meadow": (158, 188, 128)}.get(scene, wall)
    if scene == "fading":
        for y in range(_DRAWN):
            draw.line((0, y, _DRAWN, y), fill=shade(wall, 1.0 - 0.22 * y / _DRAWN))
    elif floor != wall:
        draw.rectangle((0, int(0.74 * _DRAWN), _DRAWN, _DRAWN), fill=floor)
        draw.line((0, int(0.74 * _DRAWN), _DRAWN, int(0.74 * _DRAWN)), fill=shade(floor, 0.85), width=2)
    return picture


@lru_cache(maxsize=512)
def _grain(number: int, *, strength: int, light: int) -> Image.Image:
    """Noise around 128 + `light`: adding it and taking 128 away lights the picture and makes it grainy in one go."""
    noise = np.random.Generator(np.random.PCG64(number)).normal(128 + light, strength, (SIDE, SIDE, 1))
    return Image.fromarray(np.repeat(noise.clip(0, 255).astype(np.uint8), 3, axis=2))
