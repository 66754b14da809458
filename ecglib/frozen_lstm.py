"""LSTMs with frozen weights, run by a compiled loop: the gradient of the input alone, many times over.

Learning a mask sends one batch through an LSTM some hundred times, there and back, while the weights stay as they are.
`torch.nn.LSTM` does at each step much that is of no use then: it keeps what gradients of weights would need, and calls
one function after another on matrices that are too small for them.  ``frozen_lstm.cpp`` does the same arithmetic in one
loop.  It is compiled when first needed (some seconds, once on a machine); without a C++ compiler, on a GPU and for what
it does not know, torch does the work and the results are the same but for rounding.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ecglib.modes import differentiable_rnn

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = "-std=c++17 -O3 -march=native -fno-math-errno -fno-trapping-math -fPIC -shared".split()

Tapes = list[Tensor]  #: tapes that are free to be written again: a large one is slow to come by

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}

_BITS = {torch.float32: "32", torch.float64: "64"}


@contextmanager
def frozen(model: nn.Module, tapes: Tapes) -> Iterator[None]:
    """`ecglib.modes.differentiable_rnn` in which LSTMs run as the compiled loop where they can.

    Parameters
    ----------
    model : nn.Module
        Any; its LSTMs may have several layers and either order of batch and time, and be followed by anything that is
        differentiable.  One that is bidirectional, has projections or is given a first state stays torch's.
    tapes : list of Tensor
        Empty at first.  What a forward pass notes for the backward pass is kept here between passes, 24 bytes a window,
        step and hidden unit of each layer (float32).

    Notes
    -----
    Weights are read at each forward pass; nothing of them is kept that could be out of date.  A backward pass follows
    its forward pass once (``retain_graph`` is of no use) and gives no gradient of a gradient.
    """
    with differentiable_rnn(model) as recurrent:
        able = [m for m in recurrent if type(m) is nn.LSTM and "forward" not in vars(m) and library()]
        try:
            for lstm in able:
                lstm.forward = partial(_forward, lstm, tapes)  # type: ignore[method-assign]
            yield
        finally:
            for lstm in able:
                del lstm.forward


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled loops, built if they are not in ``~/.cache/ecglib`` yet; None where they cannot be.

    The compiler is ``$CXX``, else ``c++``.
    """
    try:
        command = [*shlex.split(os.environ.get("CXX") or "c++"), *FLAGS]
        # The macros name the version of the compiler and what the processor can do
        macros = subprocess.run(
            [*command, "-dM", "-E", "-x", "c++", os.devnull], capture_output=True, check=True
        ).stdout
        command.append("-fopenmp-simd" if b"__clang__" in macros else "-fopenmp")  # torch has GCC's threads
        key = hashlib.sha256(SOURCE.read_bytes() + " ".join(command).encode() + macros).hexdigest()[:16]
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecglib"
        built = folder / f"frozen_lstm-{key}.so"
        if not built.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as there:  # others see all of the file or none
                part = Path(there) / built.name
                subprocess.run([*command, str(SOURCE), "-o", str(part)], capture_output=True, check=True)
                part.replace(built)
        return ctypes.CDLL(str(built))
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError):  # no compiler, or none that knows the flags
        return None


def terms(mask: Tensor, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Masked signal (N, 1, T) of masks (N, T), sum of |1 - m| and sum of |m_{t+1} - m_t|, both (N,)."""
    m = mask[:, None, :]
    return m * x + k * (1 - m), (1 - mask).abs().sum(1), mask.diff().abs().sum(1)


def descent(
    mask: Tensor, x: Tensor, k: Tensor, *, optimizer: str, lr: float, scale: float, lambda_tv: float, clamp: bool
) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Steps of `ecglib.masks.learn_mask`.

    Returns
    -------
    callable
        Takes the slope of the score by sample of the masked signal, shape (N, 1, T); moves ``mask``; returns its `terms`.
    """
    adam, (n, length) = optimizer == "adam", mask.shape
    x, k = x.contiguous(), k.contiguous()
    mean, square, root = (torch.zeros_like(mask) for _ in range(3))
    rule = OPTIMIZERS[optimizer]([mask], lr=lr)
    bounds = (0.0, 1.0) if clamp else (-math.inf, math.inf)
    count = 0

    def compiled(
        slope: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # three passes over the data, where torch makes thirty
        nonlocal count
        count += 1
        rate, correction = (lr / (1 - 0.9**count), (1 - 0.999**count) ** 0.5) if adam else (lr, 1.0)
        constants = (ctypes.c_double * 6)(scale, lambda_tv, rate, correction, *bounds)
        threads = torch.get_num_threads() if mask.numel() > 32768 else 1  # as torch has it
        about = n, length, threads, adam, constants
        _call("look", x, *about, mask, slope.contiguous(), x, k, mean, square)
        if adam:
            torch.sqrt(square, out=root)
        masked, area, tv = torch.empty_like(x), x.new_empty(n), x.new_empty(n)
        _call("step", x, *about, mask, mean, root, x, k, masked, area, tv)
        return masked, area, tv

    @torch.no_grad()
    def plain(slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rise, gradient = lambda_tv * mask.diff().sign(), torch.zeros_like(mask)
        gradient[:, 1:] += rise
        gradient[:, :-1] -= rise
        mask.grad = gradient.add_(scale * (mask - 1).sign()).add_((slope * (x - k))[:, 0])  # as autograd sums
        rule.step()
        mask.grad = None
        if clamp:
            mask.clamp_(0, 1)
        return terms(mask, x, k)

    return compiled if library() and _fits(x) and x.numel() and mask.is_contiguous() else plain


# Internals -----------------------------------------------------------------------------------------------------


def _fits(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in _BITS


def _call(function: str, like: Tensor, *arguments: Any) -> Any:
    """Call a compiled function for the dtype of ``like``; tensors live until it returns, and it sees their addresses."""
    seen = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments]
    return getattr(library(), function + _BITS[like.dtype])(*seen)


def _forward(lstm: nn.LSTM, tapes: Tapes, x: Any, hx: Any = None) -> Any:
    """Stands for ``lstm.forward``."""
    plain = isinstance(x, Tensor) and x.dim() == 3 and _fits(x) and x.numel() > 0 and x.shape[-1] == lstm.input_size
    same = all(w.dtype == x.dtype and w.device == x.device for w in lstm.parameters()) if plain else False
    if not same or hx is not None or lstm.bidirectional or lstm.proj_size:
        return nn.LSTM.forward(lstm, x, hx)
    out, h, c = _LSTM.apply(x if lstm.batch_first else x.transpose(0, 1), lstm, tapes)
    return out if lstm.batch_first else out.transpose(0, 1), (h, c)


@torch.no_grad()
def _pack(lstm: nn.LSTM) -> tuple[Tensor, Tensor]:
    """Weights in the orders in which the loops of ``forward`` and ``backward`` read them."""
    hidden = lstm.hidden_size
    rows: list[Tensor] = []
    columns: list[Tensor] = []
    for w_ih, w_hh, *biases in lstm.all_weights:
        bias = sum(biases, w_hh.new_zeros(4 * hidden))
        w = torch.cat([bias[:, None], w_ih, w_hh], 1).view(4, hidden, -1)  # (gate, unit, 1 + width + hidden)
        by_column = nn.functional.pad(w[..., 1:].permute(2, 1, 0).flatten(1), (0, 0, 0, (1 - w.shape[2]) % 4))
        columns.append(by_column.view(-1, 4, 4 * hidden).transpose(1, 2).flatten())
        w[2] *= 2  # tanh(z) = 2 sigmoid(2 z) - 1
        rows.append(w.permute(1, 2, 0).flatten())
    return torch.cat(rows), torch.cat(columns)


class _LSTM(torch.autograd.Function):
    """Outputs (N, T, H), h_n and c_n (layers, N, H) of x (N, T, I), as `torch.nn.LSTM` defines them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lstm: nn.LSTM, tapes: Tapes) -> Any:
        x, (rows, columns) = x.contiguous(), _pack(lstm)
        (n, steps, features), hidden, layers = x.shape, lstm.hidden_size, lstm.num_layers
        out, h, c = x.new_empty(n, steps, hidden), *(x.new_empty(layers, n, hidden) for _ in range(2))
        tape = None
        if ctx.needs_input_grad[0]:
            lanes = _call("lanes", x, n)
            size = -(-n // lanes) * lanes * layers * steps * hidden * 6
            spare = tapes.pop() if tapes else x.new_empty(0)
            tape = spare if spare.dtype == x.dtype and len(spare) >= size else x.new_empty(size)
        ctx.shape = (ctypes.c_int * 5)(n, steps, features, hidden, layers)
        ctx.columns, ctx.tape, ctx.tapes = columns, tape, tapes
        ctx.set_materialize_grads(False)
        _call("forward", x, ctx.shape, torch.get_num_threads(), x, rows, tape, out, h, c)
        return out, h, c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        if ctx.tape is None:
            raise RuntimeError("a frozen LSTM goes back once for each time it went forward; call it again")
        n, steps, features, *_ = ctx.shape
        g_x = ctx.tape.new_empty(n, steps, features)
        given = [g if g is None else g.contiguous() for g in gradients]
        _call("backward", g_x, ctx.shape, torch.get_num_threads(), *given, ctx.columns, ctx.tape, g_x)
        ctx.tapes.append(ctx.tape)
        ctx.tape = None
        return g_x, None, None
