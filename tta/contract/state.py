"""Promises about state: what may change, what `reset` undoes, and what is saved."""

from __future__ import annotations

import copy
import io
import pickle

import torch

from tta.adapter import Adapter
from tta.contract.case import Case, ContractBroken, apart, hold, images, tensors

_PLACES = "keep whatever changes in parameters, buffers, self.memory or the optimiser"


def source_is_untouched(case: Case) -> None:
    """The source model is never touched, and shares no memory with the adapter."""
    model = case.network().train()
    before, modes = tensors(model.state_dict()), [m.training for m in model.modules()]
    gradients = [p.requires_grad for p in model.parameters()]
    adapter = case.make(model)
    for seed in range(2):
        adapter(images(seed))
    advice = "adapt self.model, the private copy that prepare() is given, and leave the model that was passed in alone"
    after = tensors(model.state_dict())
    hold(list(after) == list(before), f"the source model has other entries in its state_dict() than before: {advice}")
    for key, value in before.items():
        hold(
            torch.equal(after[key], value), f"{key} of the source model changed ({apart(after[key], value)}): {advice}"
        )
    hold(modes == [m.training for m in model.modules()], f"train or eval mode of the source model changed: {advice}")
    untouched = all(p.grad is None and p.requires_grad == r for p, r in zip(model.parameters(), gradients, strict=True))
    hold(untouched, f"the source model's parameters have other gradients or another requires_grad: {advice}")
    theirs = {t.data_ptr() for t in (*model.parameters(), *model.buffers()) if t.numel()}
    shared = [name for name, t in (*adapter.named_parameters(), *adapter.named_buffers()) if t.data_ptr() in theirs]
    hold(not shared, f"{', '.join(shared[:3])} shares memory with the source model: {advice}")


def reset_is_exact(case: Case) -> None:
    """After reset() the state is that of the start, and the same batches get the same answers bit for bit."""
    adapter = case.make()
    start = tensors(adapter.state_dict())
    first = [adapter(images(seed)) for seed in range(3)]
    adapter.reset()
    end = tensors(adapter.state_dict())
    for key, value in start.items():
        hold(key in end and torch.equal(end[key], value), f"{key} is not back after reset(): {_PLACES}")
    for seed, answer in enumerate(first):
        again = adapter(images(seed))
        hold(
            torch.equal(answer, again),
            f"after reset() batch {seed + 1} gets another answer than the first time ({apart(answer, again)}):"
            f" something survives; {_PLACES}, and draw from self.generator or self.host_generator",
        )


def seeds_decide(case: Case) -> None:
    """Two adapters with one seed give the same answers bit for bit."""
    one, two = case.make(), case.make()
    for seed in range(3):
        a, b = one(images(seed)), two(images(seed))
        hold(
            torch.equal(a, b),
            f"two adapters with one seed disagree on batch {seed + 1} ({apart(a, b)}): draw from self.generator or"
            " self.host_generator",
        )


def saved_state_is_complete(case: Case) -> None:
    """An adapter that was saved and loaded goes on as if it had never stopped."""
    adapter = case.make()
    for seed in range(2):
        adapter(images(seed))
    file = io.BytesIO()
    torch.save(adapter.state_dict(), file)
    file.seek(0)
    again = case.make()
    again(images(9))  # something to overwrite
    try:
        again.load_state_dict(torch.load(file, weights_only=True))
    except pickle.UnpicklingError as error:
        raise ContractBroken(
            "state_dict() holds something that cannot be loaded safely: keep tensors, numbers, strings, lists and"
            f" dictionaries of them in self.memory ({str(error).splitlines()[0]})"
        ) from error
    for seed in range(2, 5):
        a, b = adapter(images(seed)), again(images(seed))
        hold(
            torch.equal(a, b),
            f"a loaded adapter answers differently from the one that was saved ({apart(a, b)}): state is missing from"
            f" state_dict(); {_PLACES}",
        )


def predict_changes_nothing(case: Case) -> None:
    """predict() changes nothing, repeats itself, and is what the adapter would answer."""
    adapter = case.make()
    adapter(images(0))
    before, extra = tensors(adapter.state_dict()), copy.deepcopy(adapter.get_extra_state())
    first, second = adapter.predict(images(1)), adapter.predict(images(1))
    advice = "give the prediction without learning in answer()"
    hold(torch.equal(first, second), f"two calls of predict() differ ({apart(first, second)}): {advice}")
    after = tensors(adapter.state_dict())
    for key, value in before.items():
        hold(torch.equal(after[key], value), f"predict() changed {key}: {advice}")
    drawn = zip(extra["generators"], adapter.get_extra_state()["generators"], strict=True)
    hold(all(torch.equal(*pair) for pair in drawn), f"predict() moved the adapter's random generators on: {advice}")
    if adapter.answers == "before":
        answer = adapter(images(1))
        hold(
            torch.allclose(answer, first, rtol=1e-5, atol=1e-5),
            f"predict() differs from the answer of the adapter ({apart(answer, first)}): {advice}, or set"
            ' answers = "after" if the method learns before it answers',
        )


def modes_are_alike(case: Case) -> None:
    """train() and eval() change nothing."""
    one, two = case.make().train(), case.make().eval()
    for seed in range(2):
        a, b = one(images(seed)), two(images(seed))
        hold(torch.equal(a, b), f"train and eval mode answer differently ({apart(a, b)}): leave train() as it is")


def export_is_plain(case: Case) -> None:
    """export() is a plain module that answers as the network does, and learns no more."""
    adapter = case.make()
    adapter(images(0))
    exported = adapter.export()
    advice = "return a deep copy of the answering network in eval mode"
    hold(not isinstance(exported, Adapter), f"export() returned an adapter: {advice}")
    hold(not any(p.requires_grad for p in exported.parameters()), f"export() returned trainable parameters: {advice}")
    hold(not any(m.training for m in exported.modules()), f"export() returned modules in train mode: {advice}")
    before = tensors(exported.state_dict())
    with torch.no_grad():
        a, b = exported(images(1)), adapter.network(images(1))
    hold(torch.equal(a, b), f"the exported network answers differently ({apart(a, b)}): {advice}")
    adapter(images(2))
    after = tensors(exported.state_dict())
    for key, value in before.items():
        hold(torch.equal(after[key], value), f"{key} of the exported network changed with the adapter: {advice}")


def memory_does_not_grow(case: Case) -> None:
    """Parameters and buffers do not grow with the stream."""
    adapter, sizes = case.make(), []
    for seed in range(4):
        adapter(images(seed))
        sizes.append(sum(t.numel() for t in (*adapter.parameters(), *adapter.buffers())))
    hold(
        sizes[0] == sizes[-1],
        f"parameters and buffers grew from {sizes[0]} to {sizes[-1]} values in three batches: give them a fixed size",
    )
