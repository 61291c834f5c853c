"""Distillation (DeiT, 2012.12877, Sections 3.2 and 3.3): a network learns from labels and from a trained teacher.

    soft   (1 - w) CE(student, y) + w t^2 KL(softmax(teacher / t), softmax(student / t))
    hard   (1 - w) CE(student, y) + w CE(student, argmax teacher), with w = 1/2 in the paper

w is the recipe's `distill_weight`, t its `distill_temperature`. The divergence is of the student from the teacher's distribution, the
target, as in the official code. It is summed over classes and averaged over images, as the paper's equation is written and as the
cross-entropy beside it is; the official code divides by the number of classes too, which makes the teacher's part that
much weaker, and more so the more classes there are.

A network with two classifiers (DeiT's distillation token, LeViT, RepViT) learns the first from the labels alone and the other from the
teacher alone; one with a single classifier learns both terms with it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..recipe import Recipe


def distillation_loss(output: Tensor | tuple[Tensor, ...], target: Tensor, taught: Tensor, recipe: Recipe) -> Tensor:
    """The loss (nats, mean over images) of logits `output` `(N, classes)`, one for each classifier.

    `target` are labels `(N,)` or soft labels `(N, classes)`, `taught` the teacher's logits `(N, classes)` for the same images.
    """
    first, others = (output[0], output[1:]) if isinstance(output, tuple) else (output, (output,))
    from_labels = F.cross_entropy(first.float(), target)
    from_teacher = torch.stack([teacher_loss(o.float(), taught.float(), recipe) for o in others]).mean()
    return (1 - recipe.distill_weight) * from_labels + recipe.distill_weight * from_teacher


def teacher_loss(student: Tensor, taught: Tensor, recipe: Recipe) -> Tensor:
    """The teacher's term, without its weight: cross-entropy to its decisions, or t^2 times the divergence from its distribution."""
    if recipe.distill == "hard":
        return F.cross_entropy(student, taught.argmax(1))
    t = recipe.distill_temperature
    divergence = F.kl_div(F.log_softmax(student / t, 1), F.log_softmax(taught / t, 1), log_target=True, reduction="batchmean")
    return t * t * divergence
