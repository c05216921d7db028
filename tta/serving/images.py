"""From the bytes of a request to images of the model's size. Nothing here trusts the bytes."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tta.data.image_files import DEEP_MODES
from tta.data.resize import KEEP, crop, crop_array
from tta.errors import TTAError
from tta.serving.refusal import Refusal

if TYPE_CHECKING:
    from PIL import Image

NPY = "npy"
#: What may be declared, and what that says about the bytes: nothing, where a client declares what its tool does.
TYPES: dict[str, str | None] = {
    "": None, "application/octet-stream": None, "application/x-www-form-urlencoded": None,
    "image/png": "PNG", "image/jpeg": "JPEG", "image/jpg": "JPEG", "image/webp": "WEBP",
    "application/x-npy": NPY, "application/npy": NPY,
}  # fmt: skip
TAKEN = "PNG, JPEG, WebP (image/png, image/jpeg, image/webp) and NumPy arrays (application/x-npy)"
#: Start-of-scan markers of a JPEG: each is a pass over all pixels, and a real image has a dozen.
SCAN, MAX_SCANS = b"\xff\xda", 100


@dataclass(frozen=True)
class Format:
    """What the model takes, and what a request may bring.

    Attributes:
        size: Side in pixels of the images that the model is given.
        channels: 3, or 1 for grey.
        max_pixels: Of all images of a request together, before they are resized.
        max_images: Of a request.

    Raises:
        TTAError: An image of the model's size has more pixels than a request may bring.
    """

    size: int
    channels: int = 3
    max_pixels: int = 25_000_000
    max_images: int = 32

    def __post_init__(self) -> None:
        if self.size**2 > self.max_pixels:
            raise TTAError(
                f"an image of the model's size has {self.size**2:,} pixels; allow more than {self.max_pixels:,}"
            )


def read_images(content: bytes, declared: str, form: Format) -> np.ndarray:
    """The images of a request.

    Pictures of another size are resized as data sets are here: the short side to size / 0.875, bilinear, and the centre
    of that; one that has the size already is taken as it is.

    Args:
        content: Body of the request.
        declared: Its Content-Type, or "". What the first bytes say counts more.
        form: What is taken.

    Returns:
        uint8, or float32 in [0, 1], shape (N, C, size, size).

    Raises:
        Refusal: 415 for another type, 413 for too many pixels or images, 422 for what cannot be decoded.
    """
    named = declared.partition(";")[0].strip().lower()
    if named not in TYPES:
        raise Refusal(415, f"the body has the Content-Type {named[:80]!r}; this takes {TAKEN}")
    kind, said = sniff(content), TYPES[named]
    if not content:
        raise Refusal(422, f"the body is empty; send one image, {TAKEN}")
    if kind is None and said is None:
        raise Refusal(415, f"the body begins like no image that is taken here; send {TAKEN}")
    if kind is None:
        raise Refusal(422, f"the body is declared as {named} but does not begin like one; send the file as it is")
    return read_array(content, form) if kind == NPY else read_picture(content, kind, form)[None]


def sniff(content: bytes) -> str | None:
    """What the first bytes say: "PNG", "JPEG", "WEBP", "npy", or None.

    >>> sniff(bytes([0x93]) + b"NUMPY"), sniff(b"GIF89a")
    ('npy', None)
    """
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    return NPY if content.startswith(b"\x93NUMPY") else None


def read_picture(content: bytes, kind: str, form: Format) -> np.ndarray:
    """An image file as uint8, shape (C, size, size). Its header is checked before a pixel is decoded.

    Raises:
        Refusal: See `read_images`.
    """
    from PIL import Image

    if kind == "JPEG" and content.count(SCAN) > MAX_SCANS:
        raise Refusal(422, f"the JPEG has more than {MAX_SCANS} scans; save it as a baseline JPEG")
    try:
        with Image.open(io.BytesIO(content), formats=(kind,)) as image:
            check_header(image, form)
            picture = crop(image.convert("RGB" if form.channels == 3 else "L"), form.size)
    except Refusal:
        raise
    except Image.DecompressionBombError as error:
        raise Refusal(413, f"the picture is too large ({error}); send at most {form.max_pixels:,} pixels") from error
    except Exception as error:  # decoders raise all kinds of errors on bytes that are no image
        raise Refusal(422, f"the {kind} cannot be decoded ({describe(error)}); send a whole file") from error
    array = np.array(picture)
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)


def check_header(image: Image.Image, form: Format) -> None:
    """Refuses a picture by what its header says."""
    width, height = image.size
    if width * height > form.max_pixels:
        raise Refusal(413, f"the picture has {width} x {height} pixels; send at most {form.max_pixels:,}")
    short = round(form.size / KEEP)
    if short * math.ceil(short * max(width, height) / min(width, height)) > form.max_pixels:
        raise Refusal(422, f"the picture is too long and thin ({width} x {height}) to be resized; crop it")
    if image.mode in DEEP_MODES:
        raise Refusal(422, f"the picture has more than 8 bits per value (mode {image.mode}); convert it to 8-bit first")


def read_array(content: bytes, form: Format) -> np.ndarray:
    """A NumPy file, one image or several: (H, W), (C, H, W), (H, W, C), (N, C, H, W) or (N, H, W, C); no pickle.

    Raises:
        Refusal: See `read_images`.
    """
    shape, dtype, values = read_npy(content)
    if dtype != np.uint8 and dtype not in (np.float16, np.float32, np.float64):
        raise Refusal(422, f"the array has the type {dtype}; send uint8, or floats in [0, 1]")
    images = in_order(values, shape)
    if len(images) > form.max_images:
        raise Refusal(413, f"the array has {len(images)} images; send at most {form.max_images} at a time")
    count, channels, height, width = images.shape
    if count * height * width > form.max_pixels:
        raise Refusal(413, f"the array has {count} x {height} x {width} pixels; send at most {form.max_pixels:,}")
    if channels == 3 and form.channels == 1:
        raise Refusal(422, "the array has 3 channels and the model takes grey images; send (H, W) or (1, H, W)")
    images = np.repeat(images, 3, 1) if channels < form.channels else images
    if dtype == np.uint8:
        short = round(form.size / KEEP)
        if short * math.ceil(short * max(height, width) / min(height, width)) > form.max_pixels:
            raise Refusal(422, f"the images are too long and thin ({height} x {width}) to be resized; crop them")
        return np.stack([crop_array(image, form.size) for image in images])
    if (height, width) != (form.size, form.size):
        raise Refusal(
            422, f"float images have {height} x {width} pixels; send {form.size} x {form.size}, or uint8 of any size"
        )
    images = images.astype(np.float32)
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
        raise Refusal(422, "float images must lie in [0, 1]; divide by 255, or send uint8")
    return images


def read_npy(content: bytes) -> tuple[tuple[int, ...], np.dtype[Any], np.ndarray]:
    """Shape, type and values of a NumPy file; nothing is made that is larger than the file."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = header(file)
        if dtype.hasobject or not dtype.itemsize:
            raise ValueError(f"type {dtype}")
        if not shape or min(shape) < 1 or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
            raise ValueError(f"the header tells of shape {shape} and {dtype}, and {len(content):,} bytes came")
        values = np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # the header is parsed as Python literals, which fail in many ways
        raise Refusal(422, f"the NumPy array cannot be read ({describe(error)}); write it with numpy.save") from error
    return shape, dtype.newbyteorder("="), values


def in_order(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array of any of the layouts as (N, C, H, W), C 1 or 3. Where two fit, channels come first."""
    if values.ndim == 2:
        return values[None, None]
    batch = values[None] if values.ndim == 3 else values
    if batch.ndim == 4 and batch.shape[1] in (1, 3):
        return batch
    if batch.ndim == 4 and batch.shape[3] in (1, 3):
        return np.moveaxis(batch, 3, 1)
    raise Refusal(422, f"the array has shape {shape}; send (H, W), (C, H, W) or (N, C, H, W), C 1 or 3, or C last")


def describe(error: Exception) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
