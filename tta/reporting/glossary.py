"""What the streams and methods of a report are, a line each, for readers who meet their names for the first time."""

from __future__ import annotations

from typing import Any

from tta.commands import first_line
from tta.errors import TTAError
from tta.registry import method, split_preset
from tta.reporting.words import terms

#: From the first word of a part of a stream's name to what it means; {} is what one shift is called.
PARTS = {
    "continual": "one {} after another",
    "gradual": "one {} after another, each growing and fading",
    "mixed": "all {}s shuffled into each other",
    "recurring": "the same {}s again and again",
    "ccc": "mixtures of two {}s that never stop changing",
    "sorted": "all images of a class together",
    "dirichlet": "images of a class come in runs, as in a video; the smaller the number, the longer",
    "long_tailed": "some classes are far more frequent than others",
    "noise": "some images are nothing but noise, and nobody is scored on them",
    "ood": "some images are of other kinds, and nobody is scored on them",
    "reset": "the method starts again from the source model",
}


def glossary(content: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The names on the page that want a word: `streams` and `methods`.

    A name that nobody here knows, say a method of somebody else's that is not installed, is left out.

    >>> content = {"protocol": {"reference": None, "streams": [{"stream": "mixed+noise:0.2"}], "methods": ["bn", "my"]}}
    >>> sorted(glossary(content)["streams"]), sorted(glossary(content)["methods"])
    (['mixed', 'noise'], ['bn'])
    """
    protocol, shift = content["protocol"], terms(content).shift
    found = [part.partition(":")[0] for one in protocol["streams"] for part in one["stream"].split("+")]
    return {
        "streams": {part: PARTS[part].format(shift) for part in dict.fromkeys(found) if part in PARTS},
        "methods": {name: line for name in protocol["methods"] if (line := _told(name))},
    }


def _told(name: str) -> str:
    try:
        return first_line(method(split_preset(name)[0]))
    except TTAError:
        return ""
