"""One HTML file that needs nothing else: no script, no address, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from videoclr.review.moments import Moment, TrackView
from videoclr.review.pictures import SIDE, Pair

_STYLE = f"""
:root {{ color-scheme: dark; }}
body {{ font: 14px/1.45 system-ui, sans-serif; background: #16181b; color: #d8dade; }}
body {{ margin: 2rem auto; max-width: 1560px; padding: 0 1.5rem; }}
h1 {{ font-size: 1.35rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.05rem; margin: 2rem 0 .5rem; }}
p, li {{ color: #aeb2b8; }}
b, td {{ color: #d8dade; }}
.bad {{ color: #ff8a70; }}
section {{ border-top: 1px solid #33373d; padding: 1rem 0; display: grid; grid-template-columns: 250px 1fr; gap: 1rem; }}
section h2 {{ margin: 0 0 .3rem; }}
dl {{ display: grid; grid-template-columns: auto 1fr; gap: 0 .7rem; margin: 0; }}
dt {{ color: #8b9098; }}
dd {{ margin: 0; overflow-wrap: anywhere; }}
.moments {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
figure {{ margin: 0; width: {2 * SIDE}px; }}
figure img {{ width: {SIDE}px; height: {SIDE}px; display: block; float: left; }}
figcaption {{ clear: both; color: #aeb2b8; font-size: 12px; padding-top: .2rem; }}
svg {{ display: block; width: 100%; height: 12px; background: #24272c; }}
.film svg {{ height: 28px; }}
"""


@dataclass(frozen=True, slots=True)
class Head:
    """What is said of the whole film."""

    source: str
    target: str
    version: str
    facts: Sequence[tuple[str, str]]
    """Names and values."""
    warnings: Sequence[str]


def page(
    head: Head,
    shown: Sequence[TrackView],
    left_out: int,
    pictures: Mapping[Moment, Pair],
    places: Mapping[Moment, str],
    lowest: Mapping[int, float],
    pieces: int,
) -> Iterator[str]:
    """The page, piece by piece.

    Args:
        head: of the film.
        shown: tracks with pictures, in order.
        left_out: how many tracks more there are.
        pictures: of every moment of `shown`.
        places: what an editor calls the times of those, and of the tracks' first and last moments.
        lowest: of all tracks together, piece of the film -> lowest trust.
        pieces: that the film has.
    """
    title = f"{escape(head.target)}: faces restored by videoclr {escape(head.version)}"
    yield f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
    yield f"<style>{_STYLE}</style>\n</head>\n"
    yield f"<body>\n<h1>{escape(head.target)}</h1>\n<p>from {escape(head.source)}, by videoclr {escape(head.version)}</p>\n"
    yield _facts(head.facts)
    if head.warnings:
        yield "<h2>Warnings</h2>\n<ul>\n" + "".join(f'<li class="bad">{escape(text)}</li>\n' for text in head.warnings) + "</ul>\n"
    yield f'<h2>How far the restoration is trusted, along the film</h2>\n<div class="film">{_bar(lowest, pieces)}</div>\n'
    yield "<p>Green: shown as restored, as far as was asked for. Red: faded to the input. Grey: no face, or none to restore.</p>\n"
    yield "<h2>Tracks, those that want a look first</h2>\n<p>Left the input, right what was delivered.</p>\n"
    for view in shown:
        yield from _track(view, pictures, places, pieces)
    if left_out:
        yield f'<p class="bad">{left_out} more tracks are not shown; they are trusted more than these.</p>\n'
    yield "</body>\n</html>\n"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "<dl>\n" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in facts) + "</dl>\n"


def _track(view: TrackView, pictures: Mapping[Moment, Pair], places: Mapping[Moment, str], pieces: int) -> Iterator[str]:
    who = view.name if view.name is not None else "" if view.person is None else f"person {view.person}"
    similarity, (least, most) = view.mean_similarity, view.strengths
    asked = f"{least:.2f}" if least == most else f"{least:.2f} to {most:.2f}"
    facts = [
        ("who", who or "-"),
        ("shot", str(view.shot)),
        ("from", places[view.first]),
        ("to", places[view.last]),
        ("faces", str(view.faces)),
        *([("strength", asked)] if least < 1 else []),
        ("trust", f"{view.mean_trust:.2f}, least {view.least_trusted.trust:.2f}"),
        ("similarity", "-" if similarity is None else f"{similarity:.2f}, least {view.least_alike.alike:.2f}"),
        *((reason, f"{count} of its faces") for reason, count in view.reasons.most_common()),
    ]
    yield f"<section>\n<div>\n<h2>Track {view.track}</h2>\n{_facts(facts)}{_bar(view.pieces, pieces)}</div>\n"
    yield '<div class="moments">\n'
    for why, moment in view.moments():
        before, after = (_inside(data) for data in pictures[moment])
        alike = "" if moment.similarity is None else f", similarity {moment.similarity:.2f}"
        against = f": {', '.join(moment.reasons)}" if moment.reasons else ""
        asked = "" if moment.strength == 1 else f", strength {moment.strength:.2f}"
        text = f"{why}, {places[moment]} (frame {moment.frame}){asked}, trust {moment.trust:.2f}{alike}{against}"
        yield f'<figure><img alt="before" src="{before}"><img alt="after" src="{after}">'
        yield f"<figcaption>{escape(text)}</figcaption></figure>\n"
    yield "</div>\n</section>\n"


def _inside(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


def _bar(lowest: Mapping[int, float], pieces: int) -> str:
    """Trust along the film; pieces of one colour that follow each other are one."""
    drawn, begun = [], None
    for piece in range(pieces + 1):
        colour = _colour(lowest[piece]) if piece in lowest else None
        if begun is not None and colour != begun[1]:
            drawn.append(f'<rect x="{begun[0]}" width="{piece - begun[0]}" height="1" fill="{begun[1]}"/>')
            begun = None
        if begun is None and colour is not None:
            begun = piece, colour
    return f'<svg viewBox="0 0 {pieces} 1" preserveAspectRatio="none">{"".join(drawn)}</svg>\n'


def _colour(trust: float) -> str:
    """From red to green in ten steps."""
    return f"hsl({round(10 * min(1.0, max(0.0, trust))) * 13} 60% 48%)"
