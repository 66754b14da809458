"""Modes of a network, switched for a while and restored module by module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode; each module has its own mode back afterwards, also one that differed from its parent's."""
    modes = [(m, m.training) for m in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def differentiable_rnn(model: nn.Module) -> Iterator[None]:
    """Eval mode for a forward pass through which gradients flow back, on the GPU too; everything is restored.

    cuDNN's recurrent kernels have a backward pass in training mode only.  So recurrent modules alone go to training mode,
    with their dropout (all that the mode changes in them) at zero, and every other module stays in eval mode.  Weights
    need no gradients meanwhile.
    """
    grads = [(p, p.requires_grad) for p in model.parameters()]
    recurrent = [(m, m.dropout) for m in model.modules() if isinstance(m, nn.RNNBase)]
    with evaluating(model):
        try:
            for parameter, _ in grads:
                parameter.requires_grad_(False)
            for rnn, _ in recurrent:
                rnn.dropout = 0.0
                rnn.training = True
            yield
        finally:
            for rnn, dropout in recurrent:
                rnn.dropout = dropout
            for parameter, grad in grads:
                parameter.requires_grad_(grad)
