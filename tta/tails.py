"""Tails: where a model is at its worst, by class and along the stream. A mean can hide both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Images in a window.
WINDOW = 1000


class WorstClass(NamedTuple):
    """The class with the highest error: its number, its error in %, its images; of several, the lowest number."""

    number: int
    error: float
    n: int


class Window(NamedTuple):
    """A stretch of consecutive images.

    Attributes:
        value: Mean of the values in it.
        start: Number of its first image within the stream, from 0.
        n: Images in it: the whole stream if that is shorter than a window.
    """

    value: float
    start: int
    n: int


def class_errors(wrong: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Error of every class in %, and its images.

    Args:
        wrong: Whether each answer is wrong, shape (n,).
        label: True classes, 0 or more, shape (n,).

    Returns:
        Errors, NaN for a class without images, and counts, both of shape (highest class + 1,).

    >>> class_errors(np.array([True, False, True]), np.array([0, 0, 2]))[0]
    array([ 50.,  nan, 100.])
    """
    counts = np.bincount(label)
    with np.errstate(invalid="ignore"):
        return 100 * np.bincount(label, weights=wrong) / counts, counts


def balanced_error(wrong: np.ndarray, label: np.ndarray) -> float:
    """Error averaged over the classes that occur, in %: 100 minus the balanced accuracy; NaN without images.

    Args:
        wrong: Whether each answer is wrong, shape (n,).
        label: True classes, 0 or more, shape (n,).
    """
    if len(label) == 0:
        return float("nan")
    errors, counts = class_errors(wrong, label)
    return float(errors[counts > 0].mean())


def worst_class(wrong: np.ndarray, label: np.ndarray) -> WorstClass:
    """The class with the highest error. Mind its number of images: the worst of many small classes is bad by chance.

    Args:
        wrong: Whether each answer is wrong, shape (n,).
        label: True classes, 0 or more, shape (n,), n at least 1.
    """
    errors, counts = class_errors(wrong, label)
    number = int(np.nanargmax(errors))
    return WorstClass(number, float(errors[number]), int(counts[number]))


def window_means(values: np.ndarray, size: int = WINDOW) -> np.ndarray:
    """The mean of every stretch of `size` consecutive values: one beginning at each, as far as it reaches.

    Args:
        values: In the order of the stream, shape (n,), n at least 1.
        size: Length of a window; the whole stream is the only window if it is shorter.

    Returns:
        Shape (n - size + 1,), or (1,).

    >>> window_means(np.array([1.0, 3.0, 5.0]), 2)
    array([2., 4.])
    """
    size = min(size, len(values))
    total = np.cumsum(np.r_[0.0, values])
    return (total[size:] - total[:-size]) / size


def worst_window(wrong: np.ndarray, size: int = WINDOW) -> Window:
    """The stretch of consecutive images with the highest error in %; the first of several.

    Args:
        wrong: Whether each answer is wrong, in the order of the stream, shape (n,), n at least 1.
        size: Images in a window.
    """
    errors = window_means(100.0 * wrong, size)
    start = int(errors.argmax())
    return Window(float(errors[start]), start, min(size, len(wrong)))
