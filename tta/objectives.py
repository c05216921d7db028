"""What adapters minimise: pure functions on logits. Dimension 1 is the class; further ones (label maps) are kept."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy of the predicted class distribution.

    Args:
        logits: Unnormalised scores, shape (B, K, *).

    Returns:
        Entropy in nats, shape (B, *): 0 for a certain prediction, log K for a uniform one.

    Reference:
        Wang et al., "Tent", ICLR 2021, eq. 1.

    >>> entropy(torch.zeros(1, 4)).exp()
    tensor([4.])
    """
    log_probs = logits.log_softmax(1)
    return -(log_probs.exp() * log_probs).sum(1)


def cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Cross-entropy of a prediction with a soft target given as logits, -sum softmax(target) log softmax(logits).

    Args:
        target: Logits of the target distribution, shape (B, K, *).
        logits: Logits of the prediction, same shape.

    Returns:
        Nats, shape (B, *).

    Reference:
        Wang et al., "Continual Test-Time Domain Adaptation" (CoTTA), CVPR 2022, eq. 5.
    """
    return -(target.softmax(1) * logits.log_softmax(1)).sum(1)


def symmetric_cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Mean of the two cross-entropies, (CE(target, logits) + CE(logits, target)) / 2, shape (B, *).

    Reference:
        The published CoTTA code for ImageNet-C; Doebler et al., "Robust Mean Teacher", CVPR 2023, eq. 3.
    """
    return (cross_entropy(target, logits) + cross_entropy(logits, target)) / 2


def likelihood_ratio(target: Tensor, logits: Tensor, clip: float = 0.999) -> Tensor:
    """Negative log-odds of the classes, -sum_k p_k log(q_k / (1 - q_k)), shape (B, *), where p is of `target`.

    Its gradient does not fade where the prediction is sure, as that of the cross-entropy does; so images of which the
    target is sure teach too.

    Args:
        target: Logits of p, shape (B, K, *).
        logits: Logits of q, shape (B, K, *).
        clip: Probabilities above it do not teach.

    Reference:
        After Mummadi et al., "Test-time adaptation to distribution shift by confidence maximization and input
        transformation", 2021, who take p from q itself (`soft_likelihood_ratio`).
    """
    q = logits.softmax(1).clamp(torch.finfo(logits.dtype).tiny, clip)
    return -(target.softmax(1) * (q.log() - torch.log1p(-q))).sum(1)


def confidence(logits: Tensor) -> Tensor:
    """Probability of the predicted class, shape (B, *)."""
    return torch.exp(logits.amax(1) - logits.logsumexp(1))


def generalised_cross_entropy(logits: Tensor, q: float = 0.8) -> Tensor:
    """Generalised cross-entropy of a prediction with its own hard label, (1 - p_y^q) / q with y = argmax p.

    Args:
        logits: Unnormalised scores, shape (B, K, *).
        q: In (0, 1]: towards 0 it is the cross-entropy, at 1 the mean absolute error, which wrong labels mislead less.

    Returns:
        Shape (B, *), in [0, 1 / q].

    Reference:
        Rusak et al., "If your data distribution shifts, use self-learning" (RPL), TMLR 2022.
    """
    return (1 - confidence(logits) ** q) / q


def soft_likelihood_ratio(logits: Tensor, clip: float = 0.99) -> Tensor:
    """Soft likelihood ratio, -sum p log(p / (1 - p)): its gradient does not vanish for confident predictions.

    Args:
        logits: Unnormalised scores, shape (B, K, *).
        clip: Largest probability; above, there is no gradient.

    Returns:
        Shape (B, *); negative for confident predictions.

    Reference:
        Mummadi et al., "Test-time adaptation to distribution shift by confidence maximization and input
        transformation", 2021; clipped as in Marsden et al., "Universal test-time adaptation" (ROID), WACV 2024.
    """
    probs = logits.softmax(1).clamp(max=clip)
    return -(probs * (probs / (1 - probs) + 1e-5).log()).sum(1)


def negative_diversity(logits: Tensor) -> Tensor:
    """Negative entropy of the batch's mean prediction, a scalar: least when all classes are predicted equally often.

    Args:
        logits: Unnormalised scores, shape (B, K, *).

    Reference:
        Liang et al., "Do we really need to access the source data?" (SHOT), ICML 2020.
    """
    mean = logits.softmax(1).transpose(0, 1).flatten(1).mean(1)
    return (mean * (mean + 1e-5).log()).sum()


def conjugate(logits: Tensor, epsilon: float = 0.0) -> Tensor:
    """Conjugate pseudo-label loss of a model that was trained with the poly-1 loss, CE + epsilon * (1 - p_y).

    The training loss is f(z) - y . g(z) with f = logsumexp + epsilon and g(z) = z + epsilon p; its conjugate
    pseudo-label solves (I + epsilon (diag p - p p')) y = p, which is p / (1 + epsilon p), normalised. The loss is the
    training loss at that label, and the gradient flows through the label too. With epsilon 0 (cross-entropy) the label
    is the prediction itself and the loss its entropy.

    Args:
        logits: Unnormalised scores, shape (B, K, *).
        epsilon: The epsilon of the poly-1 loss, at least 0.

    Returns:
        Shape (B, *).

    Reference:
        Goyal et al., "Test-time adaptation via conjugate pseudo-labels", NeurIPS 2022.
    """
    log_probs = logits.log_softmax(1)
    probs = log_probs.exp()
    weights = probs / (1 + epsilon * probs)
    label = weights / weights.sum(1, keepdim=True)
    return (label * (epsilon * (1 - probs) - log_probs)).sum(1)


def marginal_entropy(logits: Tensor) -> Tensor:
    """Entropy of the mean predicted distribution over views.

    Args:
        logits: Unnormalised scores of V views of one image, shape (V, K).

    Returns:
        Nats, a scalar: 0 if all views agree with certainty.

    Reference:
        Zhang et al., "MEMO: Test time robustness via adaptation and augmentation", NeurIPS 2022, eq. 3.

    >>> marginal_entropy(torch.tensor([[99.0, 0.0], [0.0, 99.0]])).exp()
    tensor(2.)
    """
    mean = logits.log_softmax(1).logsumexp(0) - math.log(len(logits))
    return -(mean.exp() * mean).sum()
