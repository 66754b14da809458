"""Modes of a network, switched for a while and restored module by module."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

# A mode is the module's own: of two threads in one network, each would restore what the other had set
_SWITCHING = threading.RLock()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode; each module has its own mode back afterwards, also one that differed from its parent's."""
    training = [m for m in model.modules() if m.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def differentiable_rnn(model: nn.Module) -> Iterator[list[nn.RNNBase]]:
    """Eval mode for a forward pass through which gradients flow back, on the GPU too; everything is restored.

    cuDNN's recurrent kernels have a backward pass in training mode only.  So recurrent modules alone go to training mode,
    with their dropout (all that the mode changes in them) at zero, and every other module stays in eval mode.  Weights
    need no gradients meanwhile.  Yields the recurrent modules.
    """
    with _SWITCHING, evaluating(model):
        modules = list(model.modules())  # once: to walk a deep network takes longer than a small step through it
        trained = [p for m in modules for p in m._parameters.values() if p is not None and p.requires_grad]
        recurrent = [(m, m.dropout) for m in modules if isinstance(m, nn.RNNBase)]
        try:
            for parameter in trained:
                parameter.requires_grad_(False)
            for rnn, _ in recurrent:
                rnn.dropout = 0.0
                rnn.training = True
            yield [rnn for rnn, _ in recurrent]
        finally:
            for rnn, dropout in recurrent:
                rnn.dropout = dropout
                rnn.training = False
            for parameter in trained:
                parameter.requires_grad_(True)
