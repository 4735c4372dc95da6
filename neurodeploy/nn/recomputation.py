"""Trade time for memory: forget what a block computed, and compute it again for its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, values: Tensor) -> Tensor:
    """Give module(values), keeping only `values` for the backward pass.

    The module runs once more in the backward pass, so the gradients are those of an ordinary
    call to the bit. Its buffers, such as running statistics, change in the first run only.

    Args:
        module: Depends on nothing but its argument, its parameters and buffers.
        values: Its argument.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _buffers_kept(module)

    result: Tensor = checkpoint(
        module,
        values,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=contexts,
    )
    return result


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Give the module's buffers their values back at the end."""
    before = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, values in before:
            # Past autograd's count of changes: the graph does not depend on these values.
            buffer.data.copy_(values)
