"""Results in the files of RobustBench: a `model_info` JSON per method, and the accuracies one by one as CSV."""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tta.errors import TTAError
from tta.files import folder, write
from tta.mce import clean_error, corruption_errors
from tta.reporting.words import short

if TYPE_CHECKING:
    from tta.results import Results

SEVERITIES = (1, 2, 3, 4, 5)


def write_robustbench(results: Results, out: Path) -> list[Path]:
    """Writes what RobustBench keeps of a model under common corruptions, for every method.

    `DATA/corruptions/MODEL_METHOD.json` has the keys of its leaderboard: accuracies in %, as strings with two decimals,
    averaged over seeds. What results do not know is null, to be filled in by hand: link, name (of the paper), authors,
    venue, additional_data; reported is empty. `corruptions_acc` is null unless all 15 common corruptions are there at
    severities 1 to 5, `corruptions_mce` also unless the data are ImageNet's. `clean_acc` is that of the clean probe
    before the stream. The footnote says that an adapted model has seen the images before: RobustBench ranks models that
    answer every image on its own, and takes none with an optimisation at test time.

    `DATA/corruptions/unaggregated_results.csv` has a line per method under two lines of headings, corruption and
    severity; accuracies from 0 to 1.

    Args:
        results: Of one stream.
        out: Folder, made if it is not there.

    Returns:
        The files.

    Raises:
        TTAError: Results of several data sets, models or streams, or without corruptions.
    """
    import pandas as pd

    data, model = _about(results)
    place = folder(folder(folder(out, "the folder") / data, "the folder") / "corruptions", "the folder")
    files, lines = [], {}
    for method in results.methods():
        name = "_".join(re.sub(r"[^\w.+-]+", "-", word).strip("-") for word in (short(model), method))
        accuracies = _accuracies(results, method)
        lines[name] = {key: value / 100 for key, value in accuracies.items()}
        files.append(place / f"{name}.json")
        write(files[-1], json.dumps(_info(results, method, data, model, accuracies), indent=2) + "\n")
    files.append(place / "unaggregated_results.csv")
    table = pd.DataFrame.from_dict(lines, orient="index")
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    write(files[-1], table.to_csv())
    return files


def _about(results: Results) -> tuple[str, str]:
    """Name of the data set and of the model."""
    protocols = results.provenance.get("protocols", {}).values()
    data = {domain["data"].partition("/")[0] for one in protocols for domain in one["domains"] if domain["scored"]}
    models = {entry["model"]["name"] for entry in results.provenance.get("cells", []) if "model" in entry}
    streams = {(one["stream"], one["batch_size"], one["reset"]) for one in protocols}
    if len(data) != 1 or len(models) != 1 or len(streams) != 1:
        raise TTAError(
            f"RobustBench keeps one model on one data set: these results are of {len(models)} models,"
            f" {len(data)} data sets and {len(streams)} streams"
        )
    return data.pop(), models.pop() or "model"


def _accuracies(results: Results, method: str) -> dict[tuple[str, int | float], float]:
    """In %, by corruption and severity, averaged over visits and seeds."""
    found: dict[tuple[str, int | float], list[float]] = {}
    for row in results.rows:
        if row.method == method and row.metric == "error" and row.position >= 0 and row.severity:
            severity = int(row.severity) if row.severity % 1 == 0 else row.severity
            found.setdefault((row.domain.rpartition("/")[2], severity), []).append(100 - row.value)
    if not found:
        raise TTAError(f"the results have no errors of {method} under corruptions")
    return {key: statistics.fmean(values) for key, values in found.items()}


def _info(
    results: Results, method: str, data: str, model: str, accuracies: dict[tuple[str, int | float], float]
) -> dict[str, Any]:
    """The entry of the leaderboard."""
    from corruptions import suite

    whole = {s.method: s.whole for s in results.summary()}[method]
    complete = set(accuracies) == {(name, severity) for name in suite("imagenet-c") for severity in SEVERITIES}
    info = {
        "link": None, "name": None, "authors": None, "additional_data": None,
        "number_forward_passes": math.ceil(whole["forwards"].mean) if "forwards" in whole else None,
        "dataset": data, "venue": None, "architecture": model, "eps": None,
        "clean_acc": _percent(100 - clean_error(results, method)), "reported": "",
        "corruptions_acc": _percent(statistics.fmean(accuracies.values())) if complete else None,
    }  # fmt: skip
    if data == "imagenet":
        info["corruptions_mce"] = _percent(corruption_errors(results, method, "alexnet").mce) if complete else None
    return {**info, "footnote": _footnote(results, method, complete, len(accuracies))}


def _footnote(results: Results, method: str, complete: bool, cells: int) -> str:
    """What a reader of the leaderboard must know."""
    (protocol, *_) = results.provenance["protocols"].values()
    seeds = {entry["seed"] for entry in results.provenance["cells"] if entry["method"] == method}
    counts = sorted({row.n for row in results.rows if row.method == method and row.position >= 0})
    told = []
    if method != "source":
        told.append(
            f"Adapted at test time by {method}: the answers depend on the images that came before and in the same batch"
            f" ({protocol['stream']}, batches of {protocol['batch_size']}, reset: {protocol['reset']})."
        )
    if not complete:
        told.append(f"{cells} pairs of corruption and severity instead of 15 x 5, so no mean.")
    told.append(f"{' to '.join(map(str, counts[:1] + counts[1:][-1:]))} images each, {len(seeds)} seed(s).")
    return " ".join(told)


def _percent(value: float) -> str | None:
    return None if math.isnan(value) else f"{value:.2f}"
