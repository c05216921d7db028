"""How long the model waits for its images: corruptions computed on the way, and JPEG files read and decoded.

Share: seconds until a batch is there over these and the seconds of the steps, for a loop that asks for one batch after
another, and for one whose next batch is made in a thread meanwhile (`Stream.batches(ahead=True)`, the default on
anything but the CPU). On the CPU that needs a second core that is idle. The results of every run hold the same seconds
as `seconds_images`, beside `seconds_total` of the steps.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from perf_turns import source, tell
from PIL import Image
from torch import Tensor

import tta
from tta.data.images import Corrupted, ImageData
from tta.streams import Stream

CORRUPTIONS = ("gaussian_noise", "motion_blur", "fog", "elastic_transform", "jpeg_compression")


def jpegs(data: ImageData, folder: Path) -> ImageData:
    """The same images as JPEG files in folders of their classes."""
    for number, image in enumerate(data.images(slice(None))):
        place = folder / f"{int(data.labels[number]):04d}"
        place.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{number}.jpg", quality=90)
    return tta.load_data(str(folder), size=data.images(slice(0, 1)).shape[-1])


def waited(adapter: tta.Adapter, stream: Stream, device: str, ahead: bool) -> tuple[float, float]:
    """Seconds until batches are there, and seconds of steps, after the first batch."""
    waits, steps = list[float](), list[float]()
    asked = time.perf_counter()
    for batch in stream.batches(device, ahead=ahead):
        waits.append(time.perf_counter() - asked)
        steps.append(step(adapter, batch.x))
        asked = time.perf_counter()
    return sum(waits[1:]), sum(steps[1:])


def step(adapter: tta.Adapter, x: Tensor) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    adapter(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits", help="as in `tta bench`, or random:NAME for a timm model")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--methods", nargs="+", default=["source", "tent"])
    parser.add_argument("--corruptions", nargs="*", default=list(CORRUPTIONS))
    parser.add_argument("--limit", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="add the figures to this file, a line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = source(options.model, options.device)
    data = tta.load_data(options.dataset, options.data, limit=options.limit)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        kinds: dict[str, ImageData] = {name: Corrupted(data, name, 5) for name in options.corruptions}
        kinds["jpeg_files"] = jpegs(data, Path(folder))
        for kind, images in kinds.items():
            stream = tta.make_stream([tta.Domain(kind, 5, images)], "continual", options.batch, 0)
            for name in options.methods:
                for ahead in (False, True):
                    wait, work = waited(tta.wrap(model, name), stream, options.device, ahead)
                    word = f"{kind}_{name}" + ("_ahead" if ahead else "")
                    figures[f"{word}_share"] = wait / (wait + work)
                    figures[f"{word}_images_per_s"] = (len(data) - options.batch) / (wait + work)
    tell(figures, options)


if __name__ == "__main__":
    main()
