"""How far CoTTA's own passes can be made cheaper without changing its results, beside the published loop, in one run.

Every arm is the whole step with the published views and the gate held open, in a process of its own, for what a process
does with freed memory cannot be taken back. The processes take turns; seconds are the least that a step of each took
over all turns, which other load on the machine disturbs least. Error: the largest difference of the first answer from
that of `ours`, over the standard deviation of the logits.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from perf_cotta import GATE, PublishedLoop
from perf_turns import batches, clock, source, tell

import tta
from tta import heap

#: Settings of `tta.wrap` for each arm; "kept" keeps freed memory as `tta bench` does.
ARMS = {
    "published": {},
    "ours": {},
    "channels_first": {},
    "chunk_2": {"chunk": 2},
    "chunk_4": {"chunk": 4},
    "kept": {},
    "kept_chunk_2": {"chunk": 2},
    "kept_compile": {"compile": "default"},
}


def one_arm(options: argparse.Namespace) -> None:
    """Prints the seconds of the fastest step, and the first answer."""
    if options.arm.startswith("kept"):
        heap.keep_freed()
    model, x = source(options.model, options.device), batches(1, options.batch, options.size, options.device)[0]
    if options.arm == "published":
        run = PublishedLoop(model, options.size)
    else:
        run = tta.wrap(model, "cotta", per_image=False, gate=GATE, **ARMS[options.arm])
    if options.arm == "channels_first":
        for network in run.networks():
            network.to(memory_format=torch.contiguous_format)
    first, taken = run(x).flatten().tolist(), []
    for _ in range(options.steps):
        start = clock()
        run(x)
        taken.append(clock() - start)
    sys.stdout.write(json.dumps({"seconds": min(taken), "first": first}) + "\n")


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of each arm, its speed-up over the published loop, and how far its first answer is from ours."""
    seconds: dict[str, list[float]] = {name: [] for name in options.arms}
    first: dict[str, torch.Tensor] = {}
    for _ in range(options.repeats):
        for name in options.arms:
            words = [
                "--arm",
                name,
                "--model",
                options.model,
                "--batch",
                str(options.batch),
                "--size",
                str(options.size),
            ]
            words += ["--device", options.device, "--steps", str(options.steps)]
            done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
            told = json.loads(done.stdout.splitlines()[-1])
            seconds[name].append(told["seconds"])
            first[name] = torch.tensor(told["first"])
    best = {name: min(taken) for name, taken in seconds.items()}
    found = {f"{name}_seconds": value for name, value in best.items()}
    found |= {
        f"published_over_{name}": best["published"] / value for name, value in best.items() if name != "published"
    }
    spread = first["ours"].std()
    names = [name for name in first if name not in ("published", "ours")]
    return found | {f"{name}_error": float((first[name] - first["ours"]).abs().max() / spread) for name in names}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits", help="as in `tta bench`, or random:NAME for a timm model")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--arms", nargs="+", default=list(ARMS), choices=list(ARMS), help="published and ours are needed"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="add the figures to this file, a line of JSON")
    parser.add_argument("--arm", choices=list(ARMS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.arm:
        return one_arm(options)
    tell(measure(options), options)


if __name__ == "__main__":
    main()
