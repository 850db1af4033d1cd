#!/usr/bin/env python3
"""Inspect the photographs of one train pass and write a report.

    python3 process.py --data '{"requestId": "...", "imageUrls": [...], ...}'

Every image is fetched, checked for completeness, measured and given a verdict:

    good        complete, and within every threshold below
    intact      complete, but nothing could be measured because Pillow is missing
    review      complete, but outside at least one threshold
    unreadable  not fetched, or not a complete JPEG or PNG

This program knows nothing of Procession. It uses these variables where they are set:

    PROCESSION_ARTIFACTS  directory for report.html       (else reports/<requestId>/)
    PROCESSION_RESULT     file for the result, as JSON    (else result.json beside the report)
    PROCESSION_PROGRESS   file that gets lines like "0.38 roof left"

Exit codes: 0 the report is written, whatever it says of the images; 2 the arguments are
unusable; 1 anything else, such as a full disk.

Python 3.9 or later. Pillow is optional: it is used where it is installed, or from the .venv
that prepare.py makes. Without it only completeness and size are checked.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import http.client
import io
import json
import os
import re
import site
import socket
import struct
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any

HERE = Path(__file__).resolve().parent


def site_packages_beside_this_file() -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return HERE / ".venv" / "lib" / version / "site-packages"


# Appended to the path, so a Pillow installed in the ordinary way comes first.
if site_packages_beside_this_file().is_dir():
    site.addsitedir(str(site_packages_beside_this_file()))
try:
    from PIL import Image, ImageFilter, ImageOps, ImageStat
except ImportError:
    Image = None

# --- Limits and thresholds -----------------------------------------------------------------

WORKERS = 7  # images at once
SILENCE_SECONDS = 10  # longest wait for the next bytes of an image
FETCH_SECONDS = 60  # longest time to receive one whole image
MAX_IMAGE_BYTES = 20 * 1024 * 1024
MAX_IMAGE_PIXELS = 50_000_000

MIN_SHORT_SIDE = 240  # pixels
MIN_SHARPNESS = 8.0  # see sharpness()
MIN_BRIGHTNESS = 45.0  # mean of the grey values, 0 to 255
MAX_BRIGHTNESS = 210.0
SHADOW, HIGHLIGHT = 5, 250  # grey values up to and from which detail is lost
MAX_SHADOWS = 0.40  # fraction of the pixels
MAX_HIGHLIGHTS = 0.25

# Everything is measured on a copy of at most this size, so that one threshold fits all cameras.
WORKING_SIDE = 800
THUMBNAIL_SIDE = 560
MAX_EMBEDDED_BYTES = 256 * 1024  # without Pillow: images up to this size are shown as they came
HISTOGRAM_BARS = 32

GOOD, INTACT, REVIEW, UNREADABLE = "good", "intact", "review", "unreadable"
VERDICTS = (UNREADABLE, REVIEW, INTACT, GOOD)

# --- The request ---------------------------------------------------------------------------

REQUIRED_FIELDS = (
    "requestId",
    "systemId",
    "inspectionStartTime",
    "inspectionEndTime",
    "trainId",
    "lineCode",
    "imageUrls",
    "yardName",
    "direction",
)
REQUIRED_IMAGE_FIELDS = ("location", "imageUrl")


class UnusableRequest(Exception):
    """The request lacks something without which there is nothing to inspect."""


@dataclass(frozen=True)
class Shot:
    location: str
    url: Any  # as it was sent: whether it is a usable address is a finding, not an error


@dataclass(frozen=True)
class Request:
    fields: dict[str, Any]
    shots: list[Shot]

    def text(self, name: str) -> str:
        return as_text(self.fields.get(name))


def parse_request(text: str) -> Request:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableRequest(f"--data is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UnusableRequest("--data is not a JSON object")
    require(fields, REQUIRED_FIELDS, "")
    if not isinstance(fields["imageUrls"], list):
        raise UnusableRequest("/imageUrls is not an array")
    return Request(fields, [parse_shot(entry, i) for i, entry in enumerate(fields["imageUrls"])])


def parse_shot(entry: Any, index: int) -> Shot:
    pointer = f"/imageUrls/{index}"
    if not isinstance(entry, dict):
        raise UnusableRequest(f"{pointer} is not an object")
    require(entry, REQUIRED_IMAGE_FIELDS, pointer)
    return Shot(as_text(entry["location"]), entry["imageUrl"])


def require(fields: dict[str, Any], names: tuple[str, ...], pointer: str) -> None:
    missing = [f"{pointer}/{name}" for name in names if fields.get(name) is None]
    if missing:
        raise UnusableRequest("missing or null: " + ", ".join(missing))


def as_text(value: Any) -> str:
    """Any JSON value on one line, as a person would write it."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split())


# --- Fetching ------------------------------------------------------------------------------


class Unreadable(Exception):
    """Why an image cannot be inspected, in words for the report."""


def http_only_opener() -> urllib.request.OpenerDirector:
    # build_opener() would add handlers for file:, ftp: and data: addresses, also for redirects.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


OPENER = http_only_opener()


def fetch(url: Any) -> bytes:
    request = urllib.request.Request(http_address(url), headers={"User-Agent": "subway-inspection"})
    try:
        with OPENER.open(request, timeout=SILENCE_SECONDS) as response:
            return read_body(response, deadline=time.monotonic() + FETCH_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise Unreadable(f"server answered {error.code}: {as_text(str(error.reason))}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreadable(f"cannot be fetched: {plain_reason(error)}") from error


def http_address(url: Any) -> str:
    if not isinstance(url, str):
        raise Unreadable("imageUrl is not a string")
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        usable = False
    if not usable:
        raise Unreadable("imageUrl is not an http or https address")
    # Cameras put their own names into addresses; urllib takes nothing but ASCII.
    return urllib.parse.quote(url, safe="%/:?#[]@!$&'()*+,;=~", errors="replace")


def read_body(response: http.client.HTTPResponse, deadline: float) -> bytes:
    body = bytearray()
    announced = response.length or 0
    # read1 returns what has arrived, so a server that trickles cannot outlast the deadline.
    while announced <= MAX_IMAGE_BYTES and (chunk := response.read1(64 * 1024)):
        body += chunk
        if len(body) > MAX_IMAGE_BYTES:
            break
        if time.monotonic() > deadline:
            raise Unreadable(f"not received within {FETCH_SECONDS} s")
    if max(announced, len(body)) > MAX_IMAGE_BYTES:
        raise Unreadable(f"larger than {human_size(MAX_IMAGE_BYTES)}")
    if len(body) < announced:
        raise Unreadable(f"connection ended after {len(body)} of {announced} bytes")
    return bytes(body)


def plain_reason(error: BaseException) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, socket.timeout):
        return f"no answer within {SILENCE_SECONDS} s"
    return as_text(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)


# --- Completeness: the structure of JPEG and PNG files ---------------------------------------

JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
JPEG_END, JPEG_SCAN = 0xD9, 0xDA
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_WITHOUT_BODY = frozenset(range(0xD0, 0xD8)) | {0x01}
# Inside a scan, FF00 is a data byte and FFD0-FFD7 are restart marks; anything else ends it.
JPEG_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


@dataclass(frozen=True)
class Header:
    format: str
    width: int
    height: int


def check_structure(data: bytes) -> Header:
    """The size an image declares; raises unless the file is complete to its end mark."""
    if data.startswith(JPEG_START):
        header = check_jpeg(data)
    elif data.startswith(PNG_START):
        header = check_png(data)
    else:
        raise Unreadable("neither a JPEG nor a PNG file" if data else "empty file")
    if not header.width or not header.height:
        raise Unreadable(f"damaged {header.format}: it declares no size")
    if header.width * header.height > MAX_IMAGE_PIXELS:
        raise Unreadable(f"{header.width} × {header.height} pixels are more than can be measured")
    return header


def check_jpeg(data: bytes) -> Header:
    width = height = 0
    scanned = False
    for marker, body in jpeg_segments(data):
        if marker in JPEG_FRAMES:
            height, width = struct.unpack(">HH", take(body, 1, 4, "JPEG"))
        scanned = scanned or marker == JPEG_SCAN
    if not scanned:
        raise Unreadable("damaged JPEG: it holds no picture data")
    return Header("JPEG", width, height)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 2
    while True:
        if take(data, position, 1, "JPEG") != b"\xff":
            raise Unreadable(f"damaged JPEG: no marker at byte {position}")
        marker = take(data, position + 1, 1, "JPEG")[0]
        if marker == JPEG_END:
            return
        if marker == 0xFF:  # padding
            position += 1
        elif marker in JPEG_WITHOUT_BODY:
            position += 2
        else:
            (length,) = struct.unpack(">H", take(data, position + 2, 2, "JPEG"))
            if length < 2:
                raise Unreadable(f"damaged JPEG: impossible length at byte {position}")
            yield marker, take(data, position + 4, length - 2, "JPEG")
            position += 2 + length
            if marker == JPEG_SCAN:
                position = jpeg_scan_end(data, position)


def jpeg_scan_end(data: bytes, position: int) -> int:
    end = JPEG_SCAN_END.search(data, position)
    if not end:
        raise Unreadable("incomplete JPEG: the file ends before the picture does")
    return end.start()


def check_png(data: bytes) -> Header:
    chunks = png_chunks(data)
    name, body = next(chunks)
    if name != b"IHDR":
        raise Unreadable("damaged PNG: it does not begin with its header")
    width, height = struct.unpack(">II", take(body, 0, 8, "PNG"))
    if b"IDAT" not in [name for name, _ in chunks]:
        raise Unreadable("damaged PNG: it holds no picture data")
    return Header("PNG", width, height)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(PNG_START)
    name = b""
    while name != b"IEND":
        (length,) = struct.unpack(">I", take(data, position, 4, "PNG"))
        named_body = take(data, position + 4, 4 + length, "PNG")
        (checksum,) = struct.unpack(">I", take(data, position + 8 + length, 4, "PNG"))
        if zlib.crc32(named_body) != checksum:
            raise Unreadable(f"damaged PNG: wrong checksum at byte {position}")
        name, body = named_body[:4], named_body[4:]
        yield name, body
        position += 12 + length


def take(data: bytes, start: int, count: int, kind: str) -> bytes:
    part = data[start : start + count]
    if len(part) < count:
        raise Unreadable(f"incomplete {kind}: the file ends at byte {start + len(part)}")
    return part


# --- Measuring, with Pillow ------------------------------------------------------------------


@dataclass(frozen=True)
class Measures:
    sharpness: float
    brightness: float
    shadows: float
    highlights: float
    histogram: list[int]


def decode(data: bytes) -> Image.Image:
    """The whole picture decoded, upright, 8 bits a channel, at most WORKING_SIDE wide and high."""
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        # Lets the JPEG decoder shrink as it goes: a 50-megapixel photograph stays small in memory.
        image.draft("RGB", (WORKING_SIDE, WORKING_SIDE))
        image = to_eight_bits(ImageOps.exif_transpose(image))
        image.thumbnail((WORKING_SIDE, WORKING_SIDE))
        return image
    except Exception as error:  # Pillow names no common type for what a damaged file can raise.
        raise Unreadable(f"does not decode: {as_text(str(error)) or type(error).__name__}") from error


def to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip instead of scale
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def measure(image: Image.Image) -> Measures:
    grey = image.convert("L")
    histogram = grey.histogram()
    pixels = sum(histogram)
    return Measures(
        sharpness=sharpness(grey),
        brightness=ImageStat.Stat(grey).mean[0],
        shadows=sum(histogram[: SHADOW + 1]) / pixels,
        highlights=sum(histogram[HIGHLIGHT:]) / pixels,
        histogram=histogram,
    )


def sharpness(grey: Image.Image) -> float:
    """Variance of the Laplacian, as a percentage of the variance of the picture itself.

    The share of contrast that lies in fine detail: unlike the variance alone it does not
    fall when a photograph is merely dark. Focused photographs give 10 to 250, blurred ones
    less than 6.
    """
    contrast = ImageStat.Stat(grey).var[0]
    if min(grey.size) < 3 or contrast < 1:
        return 0.0
    laplacian = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128)
    inside = (1, 1, grey.width - 1, grey.height - 1)  # the filter copies the outermost pixels
    return 100 * ImageStat.Stat(grey.filter(laplacian).crop(inside)).var[0] / contrast


def thumbnail(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return data_uri("JPEG", buffer.getvalue())


def data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode('ascii')}"


# --- Verdicts --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    shot: Shot
    verdict: str
    reasons: list[str] = field(default_factory=list)
    size: int = 0
    header: Header | None = None
    measures: Measures | None = None
    picture: str = ""  # a data: address


def inspect(shot: Shot) -> Finding:
    try:
        data = fetch(shot.url)
        return inspect_with_pillow(shot, data) if Image else inspect_structure(shot, data)
    except Unreadable as reason:
        return Finding(shot, UNREADABLE, [str(reason)])


def inspect_with_pillow(shot: Shot, data: bytes) -> Finding:
    header = check_structure(data)
    image = decode(data)
    measures = measure(image)
    reasons = size_reasons(header) + light_reasons(measures)
    verdict = REVIEW if reasons else GOOD
    return Finding(shot, verdict, reasons, len(data), header, measures, thumbnail(image))


def inspect_structure(shot: Shot, data: bytes) -> Finding:
    header = check_structure(data)
    reasons = size_reasons(header)
    picture = data_uri(header.format, data) if len(data) <= MAX_EMBEDDED_BYTES else ""
    return Finding(shot, REVIEW if reasons else INTACT, reasons, len(data), header, None, picture)


def size_reasons(header: Header) -> list[str]:
    if min(header.width, header.height) >= MIN_SHORT_SIDE:
        return []
    return [f"too small: the short side has fewer than {MIN_SHORT_SIDE} pixels"]


def light_reasons(seen: Measures) -> list[str]:
    checks = (
        (
            seen.sharpness < MIN_SHARPNESS,
            f"blurred: sharpness {seen.sharpness:.1f} is below {MIN_SHARPNESS:g}",
        ),
        (
            seen.brightness < MIN_BRIGHTNESS,
            f"too dark: brightness {seen.brightness:.0f} is below {MIN_BRIGHTNESS:g}",
        ),
        (
            seen.brightness > MAX_BRIGHTNESS,
            f"too bright: brightness {seen.brightness:.0f} is above {MAX_BRIGHTNESS:g}",
        ),
        (
            seen.shadows > MAX_SHADOWS,
            f"lost shadows: {seen.shadows:.0%} of it is black, {MAX_SHADOWS:.0%} allowed",
        ),
        (
            seen.highlights > MAX_HIGHLIGHTS,
            f"lost highlights: {seen.highlights:.0%} of it is white, {MAX_HIGHLIGHTS:.0%} allowed",
        ),
    )
    return [reason for wrong, reason in checks if wrong]


def inspect_all(shots: list[Shot], progress: Progress) -> list[Finding]:
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        futures = [pool.submit(inspect, shot) for shot in shots]
        for future in as_completed(futures):
            progress.step(future.result().shot.location)
        return [future.result() for future in futures]


class Progress:
    """Appends a line a step to a file, if there is one. Used by one thread only."""

    def __init__(self, path: str | None, steps: int) -> None:
        self.path, self.steps, self.done = path, steps, 0

    def step(self, message: str) -> None:
        self.done += 1
        if self.path:
            with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as lines:
                lines.write(f"{self.done / self.steps:.2f} {message}\n")


# --- The result, for programs ----------------------------------------------------------------


def result_of(request: Request, findings: list[Finding], report: Path) -> dict[str, Any]:
    return {
        "requestId": request.fields["requestId"],
        "trainId": request.fields["trainId"],
        "lineCode": request.fields["lineCode"],
        "yardName": request.fields["yardName"],
        "report": report.name,
        "measured": bool(Image),
        "summary": {verdict: count_of(findings, verdict) for verdict in VERDICTS},
        "images": [result_of_image(finding) for finding in findings],
    }


def result_of_image(finding: Finding) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "location": finding.shot.location,
        "imageUrl": finding.shot.url,
        "verdict": finding.verdict,
        "reasons": finding.reasons,
    }
    if header := finding.header:
        entry.update(format=header.format, width=header.width, height=header.height, bytes=finding.size)
    if seen := finding.measures:
        entry.update(
            sharpness=round(seen.sharpness, 2),
            brightness=round(seen.brightness, 1),
            shadows=round(seen.shadows, 4),
            highlights=round(seen.highlights, 4),
        )
    return entry


def count_of(findings: list[Finding], verdict: str) -> int:
    return Counter(finding.verdict for finding in findings)[verdict]


# --- The report, for people ------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --paper: #f4f6f8; --card: #fff; --ink: #17212b; --soft: #5b6875;
  --line: #dde3e9; --good: #11724a; --intact: #1f5fa8; --review: #9a5b00; --unreadable: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #10161c; --card: #18212a; --ink: #e7edf3;
  --soft: #9aa8b5; --line: #2b3742; --good: #5fd39b; --intact: #82b6f2; --review: #f2b65a;
  --unreadable: #ff8f85; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--paper); color: var(--ink); padding: 2rem 1rem 3rem;
  font: 1rem/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
main { max-width: 72rem; margin: auto; display: grid; gap: 1.5rem; }
h1 { font-size: 1.75rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; overflow-wrap: anywhere; }
a { color: inherit; text-underline-offset: .15em; }
.kicker { color: var(--soft); font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 12.5rem), 1fr)); gap: .75rem 1.5rem; }
.facts dd { font-size: .9rem; }
dt, .small { color: var(--soft); font-size: .8rem; }
dd { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; }
.tile, .card, .panel { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
.tile { flex: 1 1 7rem; padding: .75rem 1rem; }
.tile b { display: block; font-size: 1.75rem; line-height: 1.2; }
.panel { padding: 1rem 1.25rem; }
.panel ul { padding-left: 1.2rem; margin-top: .35rem; overflow-wrap: anywhere; }
.notice { border-left: .3rem solid var(--review); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
.card { overflow: hidden; display: flex; flex-direction: column; }
.frame { position: relative; aspect-ratio: 3 / 2; background: #0b0f13; color: #9aa8b5;
  display: grid; place-items: center; }
.frame img { position: absolute; width: 100%; height: 100%; object-fit: contain; }
.body { padding: .9rem 1rem 1rem; display: grid; gap: .7rem; align-content: start; }
.head { display: flex; justify-content: space-between; align-items: baseline; gap: .75rem; }
.badge { font-size: .75rem; font-weight: 600; padding: .1rem .6rem; border-radius: 1rem;
  border: 1px solid currentColor; white-space: nowrap; }
.good { color: var(--good); } .intact { color: var(--intact); }
.review { color: var(--review); } .unreadable { color: var(--unreadable); }
.reasons { list-style: none; padding: 0; font-size: .9rem; overflow-wrap: anywhere; }
.metrics { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem 1rem; }
.histogram { width: 100%; height: 2.5rem; display: block; fill: var(--soft); opacity: .75; }
.source { overflow-wrap: anywhere; }
table { border-collapse: collapse; margin-top: .35rem; font-size: .9rem; }
td { padding: .15rem 1.25rem .15rem 0; vertical-align: top; }
@media print { body { padding: 0; background: none; } .card { break-inside: avoid; } }
"""

PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<header>
<p class="kicker">Train inspection report</p>
<h1>$title</h1>
</header>
<dl class="facts panel">$facts</dl>
<section class="tiles" aria-label="Summary">$tiles</section>
$notice
$attention
<section class="cards" aria-label="Photographs">$cards</section>
<section class="panel">
<h2>How a verdict is reached</h2>
<table>$rules</table>
</section>
<footer class="small">Written $written by process.py</footer>
</main>
</body>
</html>
"""
)

FACTS = (
    ("Train", "trainId"),
    ("Line", "lineCode"),
    ("Yard", "yardName"),
    ("Direction", "direction"),
    ("Began", "inspectionStartTime"),
    ("Ended", "inspectionEndTime"),
    ("Detected by", "detectionParty"),
    ("System", "systemId"),
    ("Request", "requestId"),
)

NOTICE_WITHOUT_PILLOW = (
    '<p class="panel notice"><b>Integrity and size only.</b> Pillow is not installed, so no '
    "photograph was decoded: sharpness and exposure are not measured. <code>prepare.py</code> "
    "installs it.</p>"
)


def report_of(request: Request, findings: list[Finding]) -> str:
    title = " · ".join(filter(None, map(request.text, ("trainId", "lineCode", "yardName"))))
    return PAGE.substitute(
        title=escape(title),
        style=STYLE,
        facts=facts_html(request),
        tiles=tiles_html(findings),
        notice="" if Image else NOTICE_WITHOUT_PILLOW,
        attention=attention_html(findings),
        cards="".join(card_html(i, finding) for i, finding in enumerate(findings)),
        rules=rules_html(),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z"),
    )


def facts_html(request: Request) -> str:
    known = ((label, readable_time(request.text(name))) for label, name in FACTS)
    return "".join(pair_html(label, value) for label, value in known if value)


def readable_time(text: str) -> str:
    """2025-12-25 01:02:54.000 for 20251225010254000; anything else unchanged."""
    stamp = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d{3})", text, re.ASCII)
    return "{}-{}-{} {}:{}:{}.{}".format(*stamp.groups()) if stamp else text


def tiles_html(findings: list[Finding]) -> str:
    tiles = [f'<div class="tile"><b>{len(findings)}</b>photographs</div>']
    for verdict in reversed(VERDICTS):
        if count := count_of(findings, verdict):
            tiles.append(f'<div class="tile"><b class="{verdict}">{count}</b>{verdict}</div>')
    return "".join(tiles)


def attention_html(findings: list[Finding]) -> str:
    items = "".join(
        f'<li class="{finding.verdict}"><a href="#photo-{i}">{escape(finding.shot.location)}</a>: '
        f"{escape('; '.join(finding.reasons))}</li>"
        for i, finding in enumerate(findings)
        if finding.reasons
    )
    if not items:
        return ""
    return f'<section class="panel notice"><h2>Needs attention</h2><ul>{items}</ul></section>'


def card_html(index: int, finding: Finding) -> str:
    location, verdict = escape(finding.shot.location), finding.verdict
    parts = (
        f'<div class="head"><h2>{location}</h2><span class="badge {verdict}">{verdict}</span></div>',
        reasons_html(finding),
        metrics_html(finding),
        histogram_html(finding.measures),
        source_html(finding.shot.url),
    )
    return (
        f'<article class="card" id="photo-{index}"><div class="frame">{picture_html(finding)}</div>'
        f'<div class="body">{"".join(parts)}</div></article>'
    )


def picture_html(finding: Finding) -> str:
    if finding.verdict == UNREADABLE:
        return "no picture"
    if not finding.picture:
        return "too large to show without Pillow"
    return f'<img src="{escape(finding.picture)}" alt="{escape(finding.shot.location)}">'


def reasons_html(finding: Finding) -> str:
    items = "".join(f"<li>{escape(reason)}</li>" for reason in finding.reasons)
    return f'<ul class="reasons {finding.verdict}">{items}</ul>' if items else ""


def metrics_html(finding: Finding) -> str:
    if not (header := finding.header):
        return ""
    pairs = [
        ("Size", f"{header.width} × {header.height}"),
        ("File", f"{header.format}, {human_size(finding.size)}"),
    ]
    if seen := finding.measures:
        pairs += [
            ("Sharpness", f"{seen.sharpness:.1f}"),
            ("Brightness", f"{seen.brightness:.0f} of 255"),
            ("Lost shadows", f"{seen.shadows:.1%}"),
            ("Lost highlights", f"{seen.highlights:.1%}"),
        ]
    return f'<dl class="metrics">{"".join(pair_html(*pair) for pair in pairs)}</dl>'


def pair_html(label: str, value: str) -> str:
    return f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>"


def histogram_html(measures: Measures | None) -> str:
    if not measures:
        return ""
    span = len(measures.histogram) // HISTOGRAM_BARS
    bars = [sum(measures.histogram[i : i + span]) for i in range(0, len(measures.histogram), span)]
    outline = "".join(f"V{40 - 40 * bar / max(bars):.1f}h1" for bar in bars)
    return (
        f'<svg class="histogram" viewBox="0 0 {HISTOGRAM_BARS} 40" preserveAspectRatio="none" role="img" '
        f'aria-label="Histogram of the brightness, dark to bright"><path d="M0 40{outline}V40Z"/></svg>'
    )


def source_html(url: Any) -> str:
    text = escape(as_text(url))
    try:
        link = f'<a href="{escape(http_address(url))}" rel="noreferrer noopener">{escape(file_name(url))}</a>'
    except Unreadable:
        link = text
    return f'<p class="small source" title="{text}">{link}</p>'


def file_name(url: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path).rsplit("/", 1)[-1] or url


def rules_html() -> str:
    rules = [
        ("Integrity", "a JPEG or PNG file, complete to its end mark" + (", that decodes" if Image else "")),
        ("Size", f"the short side has at least {MIN_SHORT_SIDE} pixels"),
    ]
    if Image:
        rules += [
            (
                "Sharpness",
                f"at least {MIN_SHARPNESS:g} % of the contrast is fine detail (Laplacian variance)",
            ),
            ("Brightness", f"the mean grey value is {MIN_BRIGHTNESS:g} to {MAX_BRIGHTNESS:g} of 255"),
            ("Lost shadows", f"at most {MAX_SHADOWS:.0%} of the pixels at {SHADOW} or below"),
            ("Lost highlights", f"at most {MAX_HIGHLIGHTS:.0%} of the pixels at {HIGHLIGHT} or above"),
        ]
    return "".join(f"<tr><td>{escape(name)}</td><td>{escape(rule)}</td></tr>" for name, rule in rules)


def escape(text: str) -> str:
    return html.escape(text, quote=True)


def human_size(count: int) -> str:
    if count < 1024 * 1024:
        return f"{count / 1024:.0f} KiB"
    return f"{count / (1024 * 1024):.1f} MiB"


# --- Running ---------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    use_utf8_for_output()
    try:
        request = parse_request(utf8_argument(parse_arguments(argv).data))
    except UnusableRequest as error:
        print(f"process.py: {error}", file=sys.stderr)
        return 2
    progress = Progress(os.environ.get("PROCESSION_PROGRESS"), steps=len(request.shots) + 1)
    findings = inspect_all(request.shots, progress)
    report = write_outputs(request, findings)
    progress.step("report written")
    print(summary_of(request, findings, report))
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="JSON", help="the request")
    return parser.parse_args(argv)


def use_utf8_for_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def utf8_argument(text: str) -> str:
    """The argument as the UTF-8 it was sent in, whatever locale Python decoded it with."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError as error:
        raise UnusableRequest("--data is not UTF-8") from error


def write_outputs(request: Request, findings: list[Finding]) -> Path:
    artifacts = os.environ.get("PROCESSION_ARTIFACTS")
    folder = Path(artifacts) if artifacts else Path("reports", safe_name(request.text("requestId")))
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.html"
    write_text(report, report_of(request, findings))
    result = os.environ.get("PROCESSION_RESULT") or folder / "result.json"
    write_text(Path(result), json.dumps(result_of(request, findings, report), ensure_ascii=False, indent=2))
    return report


def safe_name(text: str) -> str:
    """One harmless path component, different for different texts."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:80]
    if name and name == text:
        return name
    return f"{name or 'request'}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:12]}"


def write_text(path: Path, text: str) -> None:
    # JSON can hold half a surrogate pair, which UTF-8 cannot; its escape is also valid JSON.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def summary_of(request: Request, findings: list[Finding], report: Path) -> str:
    counts = ((count_of(findings, verdict), verdict) for verdict in reversed(VERDICTS))
    title = " ".join(map(request.text, ("trainId", "lineCode", "yardName")))
    lines = [f"{title}: " + (", ".join(f"{n} {verdict}" for n, verdict in counts if n) or "no images")]
    lines += [f"  {f.verdict:<10} {f.shot.location}: {'; '.join(f.reasons)}" for f in findings if f.reasons]
    if not Image:
        lines.append("  Pillow is not installed: integrity and size only")
    # An artifact is moved once the program is over: only its name stays true.
    shown = report.name if os.environ.get("PROCESSION_ARTIFACTS") else report
    return "\n".join(lines + [f"report: {shown}"])


if __name__ == "__main__":
    sys.exit(main())
