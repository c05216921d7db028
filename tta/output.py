"""Output folders, read back: the table of a benchmark with the records of its cells."""

from __future__ import annotations

import json
from pathlib import Path

from tta.errors import TTAError
from tta.records import load_records
from tta.results import Results


def read_output(path: str | Path) -> Results:
    """The results of an output folder, with the records of its cells as far as they are there.

    Args:
        path: The folder that `--out` named, or a results.json; its records are looked for in `cells` beside it.

    Raises:
        TTAError: There is no results.json, or a file is broken.
    """
    path = Path(path)
    file = path / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise TTAError(f"{file} is not there; give the output folder of `tta bench --out`, or its results.json")
    results = Results.from_json(file)
    # A folder may hold cells of earlier runs under the same name: an entry of the results tells which is meant.
    wanted = {json.dumps(entry, sort_keys=True): entry["cell"] for entry in results.provenance.get("cells", [])}
    for part in sorted((file.parent / "cells").glob("*.json")):
        (entry,) = Results.from_json(part).provenance["cells"]
        name = wanted.get(json.dumps(entry, sort_keys=True))
        if name is not None and part.with_suffix(".npz").is_file():
            results.records[name] = load_records(part.with_suffix(".npz"))
    return results
