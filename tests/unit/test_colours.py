"""The console's colours: text can be read on every ground, and on the page and its panels also while they flash.

The bound and the formulas of contrast and luminance are WCAG 2.2's (success criterion 1.4.3, level AA).
"""

from __future__ import annotations

import re

import pytest

from mmproject.conf import ROOT

Colour = tuple[float, float, float, float]  # red, green and blue from 0 to 255, opacity from 0 to 1

CONTRAST_MIN = 4.5
TEXTS = ["text", "soft", "strong", "bid", "ask", "up", "down", "warn", "accent"]
GROUNDS = ["ground", "panel", "hover"]
STILL_GROUNDS = [*GROUNDS, "raised"]  # nothing on a raised one flashes
TINTS = ["flash", "flash-up", "flash-down"]


def palettes() -> dict[str, dict[str, Colour]]:
    css = (ROOT / "static" / "console" / "console.css").read_text()
    dark, light = (
        dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    )
    return {
        scheme: {
            name: colour(text) for name, text in words.items() if text.startswith(("#", "rgb")) and name != "shadow"
        }
        for scheme, words in [("dark", dark), ("light", dark | light)]
    }


def colour(text: str) -> Colour:
    if text.startswith("#"):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16), 1
    red, green, blue, opacity = (float(number) for number in re.findall(r"[.\d]+", text))
    return red, green, blue, opacity


def over(tint: Colour, ground: Colour) -> Colour:
    red, green, blue = (
        above * tint[3] + below * (1 - tint[3]) for above, below in zip(tint[:3], ground[:3], strict=True)
    )
    return red, green, blue, 1


def luminance(of: Colour) -> float:
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
        for share in (part / 255 for part in of[:3])
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Colour, other: Colour) -> float:
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_measured_as_wcag_does() -> None:
    assert contrast(colour("#000000"), colour("#ffffff")) == pytest.approx(21)
    assert contrast(colour("#777777"), colour("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("tint", [None, *TINTS])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_text_can_be_read(scheme: str, tint: str | None) -> None:
    palette = palettes()[scheme]
    names = GROUNDS if tint else STILL_GROUNDS
    grounds = {name: over(palette[tint], palette[name]) if tint else palette[name] for name in names}
    found = {(text, name): contrast(palette[text], ground) for text in TEXTS for name, ground in grounds.items()}
    assert {pair: ratio for pair, ratio in found.items() if ratio < CONTRAST_MIN} == {}
