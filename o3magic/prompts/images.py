"""A figure, an array, a photo or a file as a picture that can be sent: `{{ figure | image }}`.

Arrays become PNGs of our own making, so that the same pixels are the same bytes everywhere, with
no time and no name of a program in them.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import warnings
import zlib
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, cast

from o3magic.errors import BadOption, TemplateError
from o3magic.messages import Image
from o3magic.models import Card, Catalog
from o3magic.prompts.files import file_within

MOST_SIDE: Final = 2048  # the models make larger ones smaller themselves
MOST_BYTES: Final = 15_000_000
MOST_PIXELS: Final = 100_000_000
MOST_FILE_BYTES: Final = 100_000_000
_COLOURS: Final = {1: 0, 3: 2, 4: 6}  # channels: PNG's colour type
_HINT: Final = "a figure, an array, a picture of Pillow, or the path of a PNG, JPEG, WebP or GIF"


def image_of(value: Any, folder: Path, detail: str = "auto") -> Image:
    """The picture that a value is. Raises TemplateError for what is none or is too large."""
    if detail not in ("auto", "low", "high"):
        raise TemplateError(f"no detail {detail!r}", hint="auto, low or high")
    if isinstance(value, Image):
        return value
    if isinstance(value, str) and value.startswith("https://") and value.isprintable():
        url = value
    else:
        data = _bytes(value, folder)
        url = f"data:image/{kind_of(data)};base64,{base64.b64encode(data).decode()}"
    return Image(url, cast(Literal["auto", "low", "high"], detail))


def check_images(parts: Iterable[Any], card: Card, catalog: Catalog) -> None:
    """Raise BadOption where there are pictures and the model is known to take none."""
    if "images" in card.abilities or catalog.find(card.id) is None:
        return
    if any(isinstance(part, Image) for part in parts):
        able = [each.id for each in catalog.cards if "images" in each.abilities]
        names = ", ".join(able[:4] if card.replacement not in able else [card.replacement])
        raise BadOption(f"{card.id} takes no pictures", hint=f"choose a --model that does: {names}")


def kind_of(data: bytes) -> str:
    """png, jpeg, gif or webp, by the first bytes. Raises TemplateError for anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    raise TemplateError("these bytes are no picture", hint="PNG, JPEG, WebP or GIF")


def _bytes(value: Any, folder: Path) -> bytes:
    """The file of a picture, small enough to be sent."""
    kind = type(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return small_enough(bytes(value))
    if isinstance(value, str) and value.startswith("data:image/"):
        return small_enough(_unpacked(value))
    if isinstance(value, str | Path):
        return small_enough(_read(file_within(folder, value)))
    if kind.__module__.startswith("PIL."):
        return _of_pillow(value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return of_array(value)
    figure = value if hasattr(value, "savefig") else getattr(value, "figure", None)
    if hasattr(figure, "savefig"):
        return _of_figure(figure)
    if callable(made := getattr(value, "_repr_png_", None)) and not isinstance(value, type):
        png = made()
        png = png[0] if isinstance(png, tuple) else png
        if isinstance(png, str):
            png = _unpacked(f",{png}")
        if isinstance(png, bytes):
            return small_enough(png)
    raise TemplateError(f"a {kind.__name__} is no picture", hint=_HINT)


def _unpacked(url: str) -> bytes:
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise TemplateError("the data: address of the picture is broken") from None


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise TemplateError(f"{path.name} is too large for a picture", hint="make it smaller")
        return path.read_bytes()
    except OSError as error:
        raise TemplateError(f"{path.name} cannot be read: {error.strerror}") from None


def small_enough(data: bytes) -> bytes:
    """A picture's file as it is, or a smaller one where the provider would not take it."""
    kind_of(data)
    width, height = size_of(data)
    if width * height > MOST_PIXELS:
        raise TemplateError(
            f"the picture has {width:,} x {height:,} pixels", hint="make it smaller"
        )
    if len(data) <= MOST_BYTES and max(width, height) <= MOST_SIDE:
        return data
    try:
        pillow = import_module("PIL.Image")
    except ImportError:
        if len(data) <= MOST_BYTES:
            return data
        hint = "make it smaller, or %pip install pillow and it is done here"
        raise TemplateError(f"the picture has {len(data):,} bytes", hint=hint) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = pillow.open(io.BytesIO(data))
            # A camera may have been held upright: its file says so, our pixels cannot.
            return _of_pillow(import_module("PIL.ImageOps").exif_transpose(opened))
    except (OSError, ValueError, SyntaxError) as error:
        raise TemplateError(f"the picture cannot be read: {error}") from None


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as the file says them; (0, 0) where it does not say them plainly."""
    try:
        if data[:4] == b"\x89PNG":
            return struct.unpack(">II", data[16:24])
        if data[:3] == b"GIF":
            return struct.unpack("<HH", data[6:10])
        if data[:2] == b"\xff\xd8":
            return _size_of_jpeg(data)
        if data[12:16] == b"VP8X":
            wide, high = data[24:27], data[27:30]
            return int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
    except struct.error:
        raise TemplateError("the picture's file is cut off") from None
    return 0, 0


def _size_of_jpeg(data: bytes) -> tuple[int, int]:
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        mark = data[place + 1]
        if 0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return 0, 0


def _of_figure(figure: Any) -> bytes:
    """A figure of matplotlib, at a resolution that keeps it within the limit."""
    wide, high = figure.get_size_inches()
    dots = min(float(figure.dpi), MOST_SIDE / max(wide, high))
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=dots, metadata={"Software": None})
    return made.getvalue()


def _of_pillow(picture: Any) -> bytes:
    """A picture of Pillow by its pixels alone: nothing of what else its file held."""
    width, height = picture.size
    if width * height > MOST_PIXELS or not width or not height:
        raise TemplateError(
            f"the picture has {width:,} x {height:,} pixels", hint="make it smaller"
        )
    if (often := -(-max(width, height) // MOST_SIDE)) > 1:
        if picture.mode in ("P", "1", "PA"):
            picture = picture.convert("RGBA")
        picture = picture.reduce(often)
    if picture.mode not in ("L", "RGB", "RGBA"):
        clear = picture.mode in ("LA", "PA", "La", "RGBa") or "transparency" in picture.info
        grey = picture.mode in ("1",)
        picture = picture.convert("RGBA" if clear else "L" if grey else "RGB")
    width, height = picture.size
    return png_of(width, height, len(picture.getbands()), picture.tobytes())


def of_array(array: Any) -> bytes:
    """An array of pixels as a PNG: height x width, and 1, 3 or 4 channels; 0..255 or 0.0..1.0."""
    shape = tuple(int(side) for side in array.shape)
    said = " x ".join(map(str, shape)) or "no sides"
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] not in _COLOURS):
        turned = len(shape) == 3 and shape[0] in _COLOURS
        hint = "move the channels to the end" if turned else "height x width, or height x width x 3"
        raise TemplateError(f"an array of {said} is no picture", hint=hint)
    if shape[0] * shape[1] > MOST_PIXELS:
        raise TemplateError(f"the picture has {said} pixels", hint="make it smaller")
    channels = shape[2] if len(shape) == 3 else 1
    kind = array.dtype.kind
    if kind not in "buif" or (
        kind in "ui" and not 0 <= int(array.min()) <= int(array.max()) <= 255
    ):
        raise TemplateError(f"an array of {array.dtype} is no picture", hint="uint8, or 0.0 to 1.0")
    if kind == "f" and not (float(array.min()) >= 0 and float(array.max()) <= 1):
        raise TemplateError("the numbers of the picture are not between 0.0 and 1.0")
    array = array.reshape(shape[0], shape[1], channels)
    if (often := -(-max(shape[:2]) // MOST_SIDE)) > 1:
        array = _smaller(array, often)
    scale = 1 if kind in "ui" else 255
    pixels = array.astype("float32") * scale if kind != "u" or array.dtype.kind == "f" else array
    pixels = pixels.round() if pixels.dtype.kind == "f" else pixels
    return png_of(
        int(array.shape[1]), int(array.shape[0]), channels, pixels.astype("uint8").tobytes()
    )


def _smaller(array: Any, often: int) -> Any:
    """Each square of `often` x `often` pixels as one: their mean."""
    high, wide, channels = array.shape
    rows, columns = max(1, high // often), max(1, wide // often)
    down, across = min(often, high), min(often, wide)
    squares = array[: rows * down, : columns * across]
    squares = squares.reshape(rows, down, columns, across, channels)
    return squares.mean(axis=(1, 3), dtype="float32")


def png_of(width: int, height: int, channels: int, pixels: bytes) -> bytes:
    """A PNG of these pixels, 8 bits a channel, and nothing else in it."""
    line = width * channels
    rows = b"".join(b"\0" + pixels[at : at + line] for at in range(0, height * line, line))
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    if len(data) > MOST_BYTES:
        raise TemplateError(f"the picture has {len(data):,} bytes", hint="make it smaller")
    return data
