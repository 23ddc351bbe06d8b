"""Picture goldens: resizing, PNG pixel formats and texts, JPEG and WebP by Pillow; float rounding by diffusers.

Usage: python images.py [../../packages/image/test/goldens/pillow.json]
The output is JSON with base64 bytes because the image package, and so its tests, know no tensor files.
"""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, PngImagePlugin

RESAMPLE = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}
SIZES = [(41, 29), (20, 14), (82, 58), (64, 64), (7, 50), (41, 10), (13, 29), (1, 1), (128, 3)]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def picture(width: int, height: int, seed: int, channels: int) -> np.ndarray:
    """Smooth colour with hard edges and noise, so that ringing, clamping and rounding all occur."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 120 * np.sin(x / (3 + c) + y / (5 - c)) for c in range(channels)]
    array = np.stack(planes, -1)
    array[(x + y) % 11 == 0] = 255
    array[(x * y) % 13 == 5] = 0
    return np.clip(array + rng.normal(0, 9, array.shape), 0, 255).astype(np.uint8)


def raw(image: Image.Image) -> dict:
    entry = {"width": image.width, "height": image.height, "rgb": text(np.asarray(image.convert("RGB")).tobytes())}
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        entry["rgb"] = text(np.ascontiguousarray(rgba[..., :3]).tobytes())
        entry["alpha"] = text(np.ascontiguousarray(rgba[..., 3]).tobytes())
    return entry


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def resizes(source: Image.Image) -> list[dict]:
    cases = []
    for name, resample in RESAMPLE.items():
        for width, height in SIZES:
            cases.append({"filter": name, **raw(source.resize((width, height), resample))})
    return cases


def png_modes() -> dict:
    rgba = Image.fromarray(picture(19, 13, 3, 4), "RGBA")
    rgb = Image.fromarray(picture(19, 13, 4, 3), "RGB")
    grey = rgb.convert("L")
    palette = rgb.quantize(11)
    small = rgb.quantize(3)
    one = grey.point(lambda v: 255 if v > 120 else 0).convert("1")
    grey4 = grey.quantize(4)
    images = {
        "rgb": (rgb, {}),
        "rgba": (rgba, {}),
        "grey": (grey, {}),
        "grey-alpha": (rgba.convert("LA"), {}),
        "one-bit": (one, {}),
        "palette-4bit": (palette, {"bits": 4}),
        "palette-2bit": (small, {"bits": 2}),
        "palette-8bit": (rgb.quantize(200), {}),
        "palette-grey": (grey4, {}),
        "palette-transparent": (palette, {"transparency": bytes([0, 128, 255])}),
        "rgb-key": (rgb, {"transparency": rgb.getpixel((3, 2))}),
        "grey-key": (grey, {"transparency": grey.getpixel((3, 2))}),
    }
    cases = {}
    for name, (image, options) in images.items():
        data = encoded(image, "png", **options)
        cases[name] = {"png": text(data), **raw(Image.open(io.BytesIO(data)))}
    return cases


def sixteen_bit() -> dict:
    values = np.random.default_rng(5).integers(0, 65536, (9, 7)).astype(np.uint16)
    data = encoded(Image.fromarray(values), "png")
    grey = np.round(values / 257).astype(np.uint8)
    return {"png": text(data), "width": 7, "height": 9, "rgb": text(np.repeat(grey[..., None], 3, -1).tobytes())}


def texts() -> dict:
    info = PngImagePlugin.PngInfo()
    info.add_text("plain", "a red apple, caf\u00e9")
    info.add_text("long", "seed " * 400, zip=True)
    info.add_itxt("unicode", "\u7ea2\u82f9\u679c \U0001f34e", "zh", "\u63d0\u793a")
    info.add_itxt("packed", "\u03b1\u03b2\u03b3 " * 300, zip=True)
    return {"png": text(encoded(Image.new("RGB", (2, 2)), "png", pnginfo=info))}


def lossy() -> dict:
    image = Image.fromarray(picture(48, 32, 6, 3), "RGB").resize((48, 32), Image.Resampling.BOX)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "jpeg": encoded(image, "jpeg", quality=92),
        "jpeg-turned": encoded(image, "jpeg", quality=92, exif=exif),
        "webp": encoded(image, "webp", quality=90),
        "webp-alpha": encoded(Image.fromarray(picture(16, 12, 7, 4), "RGBA"), "webp", lossless=True, exact=True),
    }
    cases = {}
    for name, data in files.items():
        opened = Image.open(io.BytesIO(data))
        upright = opened.transpose(Image.Transpose.ROTATE_270) if name == "jpeg-turned" else opened
        cases[name] = {"file": text(data), **raw(upright)}
    return cases


def rounding() -> dict:
    processor = VaeImageProcessor()
    halves = (np.arange(0, 512, dtype=np.float64) / 255) - 1
    values = np.concatenate([halves, np.random.default_rng(8).normal(0, 0.8, 1024 - 512), [-9, 9, np.inf, -np.inf]])
    values = np.resize(values, 3 * 32 * 12).astype(np.float32)
    pixels = torch.from_numpy(values.reshape(1, 3, 32, 12))
    out = processor.postprocess(pixels, output_type="pil")[0]
    every = Image.fromarray(np.arange(768, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3), "RGB")
    into = processor.preprocess(every)[0].numpy()
    return {
        "from": {"values": text(values.tobytes()), **raw(out)},
        "to": {"values": text(np.ascontiguousarray(into).tobytes()), **raw(every)},
    }


def main() -> None:
    default = Path(__file__).parent / "../../packages/image/test/goldens/pillow.json"
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    opaque = Image.fromarray(picture(41, 29, 1, 3), "RGB")
    with_alpha = Image.fromarray(picture(41, 29, 2, 4), "RGBA")
    goldens = {
        "resize": {"source": raw(opaque), "cases": resizes(opaque)},
        "resizeAlpha": {"source": raw(with_alpha), "cases": resizes(with_alpha)},
        "png": {**png_modes(), "grey-16bit": sixteen_bit()},
        "texts": texts(),
        "lossy": lossy(),
        "rounding": rounding(),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(goldens))


if __name__ == "__main__":
    main()
