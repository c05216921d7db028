"""Speed and memory within one run: `python scripts/perf.py PART --help`."""

import sys

import perf_cheaper
import perf_corruptions
import perf_cotta
import perf_gpu
import perf_guard
import perf_guard_seconds
import perf_harness
import perf_images
import perf_methods
import perf_scaling
import perf_selection
import perf_serve

PARTS = {
    "cheaper": perf_cheaper.main,
    "corruptions": perf_corruptions.main,
    "cotta": perf_cotta.main,
    "gpu": perf_gpu.main,
    "guard": perf_guard.main,
    "guard-seconds": perf_guard_seconds.main,
    "harness": perf_harness.main,
    "images": perf_images.main,
    "methods": perf_methods.main,
    "scaling": perf_scaling.main,
    "selection": perf_selection.main,
    "serve": perf_serve.main,
}


def main() -> None:
    """Hands over to the part that is named."""
    if len(sys.argv) < 2 or sys.argv[1] not in PARTS:
        sys.exit(f"{__doc__}\nchoose one of: {', '.join(PARTS)}")
    PARTS[sys.argv.pop(1)]()


if __name__ == "__main__":
    main()
