"""Pictures: figures, arrays, photos and files, small enough and the same bytes every time."""

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy
import pytest

from o3magic.errors import BadOption, TemplateError
from o3magic.messages import Image, Text
from o3magic.models import Card, Catalog
from o3magic.prompts import images
from o3magic.prompts.images import check_images, image_of, png_of, size_of

HERE = Path(".")
DOT = png_of(1, 1, 3, b"\xff\x00\x00")


def data_of(value, folder=HERE):
    head, _, body = image_of(value, folder).url.partition(",")
    assert head.startswith("data:image/")
    assert head.endswith(";base64")
    return base64.b64decode(body)


def pixels_of(png):
    """Width, height, colour type and the unfiltered rows of one of our own PNGs."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    place, chunks = 8, []
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        name, body = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        assert struct.unpack(">I", png[place + 8 + length : place + 12 + length]) == (
            zlib.crc32(name + body),
        )
        chunks.append((name, body))
        place += 12 + length
    assert [name for name, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour = struct.unpack(">IIBB", chunks[0][1][:10])
    assert depth == 8
    raw = zlib.decompress(chunks[1][1])
    line = len(raw) // height
    assert all(raw[at] == 0 for at in range(0, len(raw), line))
    return width, height, colour, b"".join(raw[a + 1 : a + line] for a in range(0, len(raw), line))


def refused(value, folder=HERE):
    with pytest.raises(TemplateError) as caught:
        image_of(value, folder)
    return "\n".join(caught.value.lines())


# Arrays


@pytest.mark.parametrize(
    ("array", "colour", "pixels"),
    [
        (numpy.array([[0, 255], [1, 2]], dtype="uint8"), 0, bytes([0, 255, 1, 2])),
        (numpy.array([[0.0, 1.0], [0.5, 0.25]]), 0, bytes([0, 255, 128, 64])),
        (numpy.array([[True, False]]), 0, bytes([255, 0])),
        (numpy.array([[0, 255]], dtype="int64"), 0, bytes([0, 255])),
        (numpy.arange(6, dtype="uint8").reshape(1, 2, 3), 2, bytes(range(6))),
        (numpy.arange(8, dtype="uint8").reshape(1, 2, 4), 6, bytes(range(8))),
        (numpy.arange(2, dtype="uint8").reshape(1, 2, 1), 0, bytes(range(2))),
        (numpy.asfortranarray(numpy.arange(6, dtype="uint8").reshape(2, 3)), 0, bytes(range(6))),
    ],
)
def test_an_array_is_a_png_of_its_pixels_and_nothing_else(array, colour, pixels):
    width, height, said, found = pixels_of(data_of(array))
    assert (height, width) == array.shape[:2]
    assert (said, found) == (colour, pixels)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (numpy.zeros((3, 5, 5)), "move the channels to the end"),
        (numpy.zeros((5,)), "no picture"),
        (numpy.zeros((0, 5)), "no picture"),
        (numpy.zeros(()), "no sides"),
        (numpy.zeros((2, 2, 2, 2)), "no picture"),
        (numpy.array([[2.0]]), "between 0.0 and 1.0"),
        (numpy.array([[-0.1]]), "between 0.0 and 1.0"),
        (numpy.array([[float("nan")]]), "between 0.0 and 1.0"),
        (numpy.array([[256]]), "int64"),
        (numpy.array([[-1]]), "int64"),
        (numpy.array([[object()]]), "object"),
        (numpy.array([["a"]]), "no picture"),
        (numpy.array([[1j]]), "complex"),
    ],
)
def test_an_array_that_is_no_picture_says_why(array, word):
    assert word in refused(array)


def test_an_array_that_is_too_large_becomes_smaller_by_its_means():
    array = numpy.zeros((4096, 10), dtype="uint8")
    array[::2] = 100
    width, height, _, pixels = pixels_of(data_of(array))
    assert (width, height) == (5, 2048)
    assert set(pixels) == {50}
    long = numpy.ones((1, 10_000))
    assert pixels_of(data_of(long))[:2] == (2000, 1)


def test_an_array_beyond_all_measure_is_refused_before_it_is_copied():
    vast = numpy.lib.stride_tricks.as_strided(
        numpy.zeros(1, dtype="uint8"), shape=(10**6, 10**6), strides=(0, 0)
    )
    assert "make it smaller" in refused(vast)


# Files and bytes


def test_a_file_goes_as_it_is(tmp_path):
    (tmp_path / "dot.png").write_bytes(DOT)
    assert data_of("dot.png", tmp_path) == DOT
    assert data_of(tmp_path / "dot.png", tmp_path) == DOT
    assert data_of(DOT) == DOT
    assert data_of(bytearray(DOT)) == DOT
    assert data_of(image_of(DOT, HERE).url) == DOT


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (DOT, "png"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 20, "jpeg"),
        (b"GIF89a\x01\x00\x01\x00" + b"\0" * 20, "gif"),
        (b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 20, "webp"),
    ],
)
def test_the_kind_is_read_from_the_bytes(data, kind, tmp_path):
    (tmp_path / "picture.txt").write_bytes(data)
    assert image_of("picture.txt", tmp_path).url.startswith(f"data:image/{kind};base64,")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"no picture",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        DOT[:10],
        b"\xff\xd8\xff" + b"\xff" * 1000,
        "data:image/png;base64,%%%",
        "data:text/html;base64,PGI+",
        "http://example.com/a.png",
        "file:///etc/passwd",
        "../up.png",
        3,
        None,
        object(),
        [[0, 1]],
        Image,
    ],
)
def test_what_is_no_picture_is_refused_or_sent_whole(value, tmp_path):
    home = tmp_path / "nb"
    home.mkdir()
    (tmp_path / "up.png").write_bytes(DOT)
    try:
        made = image_of(value, home)
    except TemplateError as error:
        made = error
    # Ten bytes of a PNG say no size; a JPEG of nothing has none either.
    assert isinstance(made, TemplateError) or made.url.startswith("data:image/jpeg")


def test_an_address_of_the_web_goes_as_it_is_and_only_by_https():
    url = "https://example.com/a.png"
    assert image_of(url, HERE) == Image(url)
    assert "no file" in refused("https://exa\nmple.com") or "outside" in refused(
        "https://exa\nmple"
    )


def test_a_picture_that_says_it_is_huge_is_refused_before_it_is_opened():
    bomb = DOT[:16] + struct.pack(">II", 60_000, 60_000) + DOT[24:]
    assert "60,000 x 60,000" in refused(bomb)


def test_the_size_of_a_jpeg():
    head = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x11\x08" + struct.pack(">HH", 3, 7) + b"\0" * 9
    assert size_of(head) == (7, 3)


def test_details_are_those_of_the_api():
    assert image_of(DOT, HERE, "high").detail == "high"
    with pytest.raises(TemplateError, match="no detail"):
        image_of(DOT, HERE, "huge")


# Pillow and matplotlib


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"])
def test_pictures_of_pillow_by_their_pixels(mode):
    pillow = pytest.importorskip("PIL.Image")
    picture = pillow.new(mode, (3, 2))
    picture.info["comment"] = "private"
    made = data_of(picture)
    assert pixels_of(made)[:2] == (3, 2)
    assert made == data_of(picture.copy())
    assert pillow.open(io.BytesIO(made)).size == (3, 2)


def test_a_large_photo_becomes_smaller_and_loses_what_else_was_in_it(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    photo = pillow.new("RGB", (5000, 100), "red")
    photo.save(tmp_path / "photo.jpg", comment=b"private")
    made = data_of("photo.jpg", tmp_path)
    assert pixels_of(made)[:2] == (1667, 34)
    assert b"private" not in made
    broken = (tmp_path / "photo.jpg").read_bytes()[:300]
    (tmp_path / "broken.jpg").write_bytes(broken)
    assert "cannot be read" in refused("broken.jpg", tmp_path)


def test_a_photo_stays_upright(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    photo = pillow.new("RGB", (3000, 100), "red")
    exif = photo.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    photo.save(tmp_path / "photo.jpg", exif=exif)
    width, height = size_of(data_of("photo.jpg", tmp_path))
    assert height > width


def test_without_pillow_a_large_photo_goes_as_it_is_while_it_may(monkeypatch):
    def gone(name):
        raise ImportError(name)

    monkeypatch.setattr(images, "import_module", gone)
    wide = png_of(3000, 1, 1, b"\0" * 3000)
    assert data_of(wide) == wide
    monkeypatch.setattr(images, "MOST_BYTES", 10)
    assert "%pip install pillow" in refused(wide)


def test_figures_and_their_axes():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    figure_module = pytest.importorskip("matplotlib.figure")

    def figure(inches):
        made = figure_module.Figure(figsize=(inches, 1))
        made.add_subplot().plot([1, 2])
        return made

    made = data_of(figure(2))
    assert made == data_of(figure(2))
    assert b"Software" not in made
    assert size_of(made) == (200, 100)
    assert data_of(figure(2).axes[0]) == made
    assert max(size_of(data_of(figure(500)))) <= 2048


def test_what_draws_itself_as_a_png():
    class Drawn:
        def _repr_png_(self):
            return base64.b64encode(DOT).decode(), {"width": 1}

    assert data_of(Drawn()) == DOT


# Who takes them


def test_a_model_that_takes_no_pictures_is_refused_with_one_that_does():
    catalog = Catalog.built_in()
    parts = (Text("a"), Image("https://example.com/a.png"))
    with pytest.raises(BadOption, match="o3-mini takes no pictures") as caught:
        check_images(parts, catalog.card("o3-mini"), catalog)
    named = caught.value.hint.rpartition(": ")[2].split(", ")
    assert named
    assert all("images" in catalog.card(name).abilities for name in named)
    check_images(parts[:1], catalog.card("o3-mini"), catalog)
    check_images(parts, catalog.card(named[0]), catalog)
    check_images(parts, Card("my-own-model"), catalog)
