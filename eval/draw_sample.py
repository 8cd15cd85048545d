"""Draw the pictures of the embedded sample: one flat 96 x 96 palette PNG an item.

    python eval/draw_sample.py [--out FOLDER]

What stands in a picture comes from ``sample_drawings.py`` by item id, its main colour from the
item's ``color``, its background from the item's ``category``. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image, ImageDraw
from sample_drawings import DRAWINGS

SAMPLE = Path(__file__).resolve().parents[1] / "llmrec" / "catalog" / "sample"
SIZE = 96
FINE = 4
"""Pictures are drawn this many times larger and averaged down, which smooths their edges."""
PALETTE_SIZE = 16

Color = tuple[int, int, int]
Point = tuple[float, float]

COLORS: dict[str, Color] = {
    "beige": (222, 190, 140),
    "black": (58, 60, 66),
    "blue": (62, 120, 190),
    "brown": (134, 88, 56),
    "clear": (206, 232, 240),
    "green": (72, 142, 84),
    "grey": (132, 138, 146),
    "navy": (46, 62, 110),
    "olive": (122, 132, 64),
    "orange": (232, 128, 48),
    "pink": (232, 136, 160),
    "purple": (122, 92, 166),
    "red": (198, 62, 54),
    "rust": (170, 86, 54),
    "silver": (186, 192, 200),
    "teal": (44, 140, 144),
    "white": (248, 246, 240),
    "yellow": (240, 196, 60),
}
FIXED: dict[str, Color] = {
    "ink": (44, 46, 54),
    "paper": (252, 250, 244),
    "metal": (196, 202, 210),
    "steel": (150, 158, 168),
    "wood": (190, 140, 88),
    "fire": (246, 146, 40),
    "glow": (255, 226, 120),
    "leaf": (98, 152, 84),
    "water": (120, 180, 220),
    "dough": (240, 216, 170),
    "coffee": (96, 62, 42),
    "tomato": (210, 76, 60),
}
OUTDOORS: Color = (206, 222, 206)
KITCHEN: Color = (238, 218, 196)
KITCHEN_CATEGORIES = frozenset(
    {
        "baking",
        "coffee",
        "cookware",
        "kitchen tools",
        "knife care",
        "knives",
        "spice tools",
        "storage",
        "tea",
    }
)


def mix(color: Color, other: Color, share: float) -> Color:
    """``color`` with ``share`` (0 to 1) of ``other`` stirred in."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


def draw_item(drawing: str, *, color: str, category: str) -> Image.Image:
    """Draw one item.

    Args:
        drawing: Strokes separated by ``;``: a shape, a colour, a width for lines, then points.
        color: The item's colour, a key of ``COLORS``.
        category: The item's category, which chooses the background.

    Returns:
        A palette image of 96 x 96 pixels.
    """
    main = COLORS[color]
    shades = {"main": main, "dark": mix(main, (20, 20, 30), 0.3)}
    colors = FIXED | shades | {"light": mix(main, (255, 255, 255), 0.4)}
    background = KITCHEN if category in KITCHEN_CATEGORIES else OUTDOORS
    image = Image.new("RGB", (SIZE * FINE, SIZE * FINE), background)
    pen = ImageDraw.Draw(image)
    for stroke in drawing.split(";"):
        shape, name, *numbers = stroke.split()
        draw_stroke(pen, shape, colors[name], numbers)
    return image.reduce(FINE).quantize(PALETTE_SIZE, dither=Image.Dither.NONE)


def draw_stroke(pen: ImageDraw.ImageDraw, shape: str, color: Color, numbers: list[str]) -> None:
    """Draw one stroke; ``numbers`` holds ``x,y`` points in pixels, for lines a width first.

    A ``pie`` or ``ring`` ends with its start,end angles in degrees, clockwise from three o'clock.
    """
    width = round(float(numbers.pop(0)) * FINE) if shape in {"line", "ring"} else 0
    pairs: list[Point] = [(float(x), float(y)) for x, y in (pair.split(",") for pair in numbers)]
    angles = pairs.pop() if shape in {"pie", "ring"} else (0.0, 0.0)
    points = [(x * FINE, y * FINE) for x, y in pairs]
    match shape:
        case "poly":
            pen.polygon(points, fill=color)
        case "oval":
            pen.ellipse(points, fill=color)
        case "box":
            pen.rounded_rectangle(points, radius=3 * FINE, fill=color)
        case "pie":
            pen.pieslice(points, *angles, fill=color)
        case "ring":
            pen.arc(points, *angles, fill=color, width=width)
        case "line":
            pen.line(points, fill=color, width=width)
            for x, y in points:
                pen.circle((x, y), width / 2, fill=color)
        case _:
            raise ValueError(f"unknown shape {shape!r}: poly, oval, box, pie, ring or line")


def main() -> None:
    """Draw every item of the sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=SAMPLE / "images", help="default: %(default)s")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    lines = (SAMPLE / "items.jsonl").read_text(encoding="utf-8").splitlines()
    for item in map(json.loads, lines):
        picture = draw_item(
            DRAWINGS[item["item_id"]], color=item["color"], category=item["category"]
        )
        picture.save(out / f"{item['item_id']}.png", optimize=True)
    print(f"{len(lines)} pictures in {out}")


if __name__ == "__main__":
    main()
