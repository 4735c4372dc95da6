"""Observe one real run of a torch module: which layer reads which, and at which step.

Layers that are known are not looked into; their tensors carry a mark of the layer and the number of
its call. Between layers, sums join marks and changes of shape pass them on; anything else leaves a
mark with its name, and a layer that reads such a tensor is refused.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neurodeploy.errors import TraceError
from neurodeploy.interchange.modules.foreign_layer import ForeignLayer, class_of
from neurodeploy.interchange.modules.norse_neurons import STEPPED, norse_neuron
from neurodeploy.interchange.modules.plain_layers import plain_layer
from neurodeploy.interchange.modules.rockpool_neurons import rockpool_neuron
from neurodeploy.interchange.modules.sinabs_neurons import sinabs_neuron
from neurodeploy.interchange.modules.slayer_blocks import PACKAGE, rest_blocks, slayer_block
from neurodeploy.interchange.modules.snntorch_neurons import snntorch_neuron
from neurodeploy.interchange.modules.spikingjelly_neurons import spikingjelly_neuron

INPUT_PATH = "input"
LAYOUTS = ("TB", "BT", "flat", "step", "last")
_NEURONS: tuple[Callable[[nn.Module], ForeignLayer | None], ...] = (
    norse_neuron,
    snntorch_neuron,
    spikingjelly_neuron,
    sinabs_neuron,
    rockpool_neuron,
    slayer_block,
)
_PASSES_ON = frozenset(
    (
        "reshape",
        "flatten",
        "unflatten",
        "view",
        "view_as",
        "squeeze",
        "unsqueeze",
        "expand",
        "movedim",
        "moveaxis",
        "permute",
        "transpose",
        "swapaxes",
        "contiguous",
        "clone",
        "__get__",  # of a property, such as .T or .data
        "__getitem__",
        "narrow",
        "select",
        "stack",
        "cat",
        "unbind",
        "split",
        "chunk",
        "to",
        "float",
        "double",
        "cpu",
        "detach",
        "requires_grad_",
    )
)
"""Functions that move values about and change none."""
_ADDS = frozenset(("add", "__add__", "__radd__", "__iadd__", "add_"))

Call = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a tensor comes from.

    Attributes:
        calls: Layers, with the number of the call, whose sum it is.
        operation: The operation that changed it, or None.
        is_state: Whether it is a state that a layer returned beside its output.
        is_sum: Whether what several layers sent was added up, and not put side by side.
    """

    calls: frozenset[Call]
    operation: str | None = None
    is_state: bool = False
    is_sum: bool = False

    @property
    def layers(self) -> frozenset[str]:
        """Layers that it comes from."""
        return frozenset(name for name, _ in self.calls)


@dataclass(slots=True, eq=False)
class Observation:
    """One run.

    Attributes:
        layers: The layers that ran, by path, in the order of their first call.
        reads: By path: the calls that it read, one set a call.
        sent: By path: its outputs, one a call.
        received: By path: what it read, one a call; empty if every spike will be compared.
        result: The calls behind the value that the module returned.
        is_sum: Whether that is the sum of what several layers sent.
        layout: How time lies in its input.
        steps: T.
        late: By path: the steps by which a layer sends late, left out of this run.
        states: By path of a layer that keeps no state of its own: the calls behind the states that
            it was given, one set a call.
    """

    layout: str
    steps: int
    layers: dict[str, ForeignLayer] = field(default_factory=dict)
    reads: dict[str, list[frozenset[Call]]] = field(default_factory=dict)
    sent: dict[str, list[Tensor]] = field(default_factory=dict)
    received: dict[str, list[Tensor]] = field(default_factory=dict)
    result: frozenset[Call] = frozenset()
    is_sum: bool = False
    late: dict[str, int] = field(default_factory=dict)
    states: dict[str, list[frozenset[Call]]] = field(default_factory=dict)

    def lags(self, path: str) -> dict[str, set[int]]:
        """Return, by source, how many calls before its own a layer read it."""
        lags: dict[str, set[int]] = {}
        calls = self.reads.get(path, [])
        for call, sources in enumerate(calls):
            for source, other in sources:
                # A layer that is called once sees all of time at once.
                at_once = len(calls) == 1 or len(self.reads.get(source, [None])) == 1
                lags.setdefault(source, set()).add(0 if at_once else call - other)
        return lags

    def part_shared(self) -> None:
        """Let a layer that is called at several places stand for one layer at each of them.

        Only layers that keep nothing from call to call can, or are given their states.
        """
        waiting = list(self.states)
        while waiting:  # each place of one may part the layers that read it
            parted = [name for path in waiting for name in self._part(path)]
            waiting = list(self.states) if parted else []

    def _part(self, path: str) -> list[str]:
        """Part the calls of a layer by what they read; return the names of the new layers."""
        reads = [frozenset(source for source, _ in calls) for calls in self.reads[path]]
        places = list(dict.fromkeys(reads))
        is_loop = len(reads) == self.steps and not all(
            a.isdisjoint(b) for a in places for b in places if a != b
        )
        if len(places) < 2 or is_loop or not all(places):
            return []
        free = (f"{path}#{number}" for number in itertools.count(2))
        free = (name for name in free if name not in self.layers)
        names = dict(zip(places, [path, *itertools.islice(free, len(places) - 1)], strict=True))
        renamed: dict[Call, Call] = {}
        counts = dict.fromkeys(places, 0)
        for call, place in enumerate(reads):
            renamed[path, call] = names[place], counts[place]
            counts[place] += 1
        for place, states in zip(reads, self.states[path], strict=True):
            if any(renamed.get(state, ("", 0))[0] != names[place] for state in states):
                return []  # a state is handed from one place to another

        def rename(calls: frozenset[Call]) -> frozenset[Call]:
            return frozenset(renamed.get(call, call) for call in calls)

        for by_path in (self.reads, self.states):
            for calls in by_path.values():
                calls[:] = map(rename, calls)
        self.result = rename(self.result)
        for held in (self.reads, self.states, self.sent, self.received):
            by_call: dict[str, list[Any]] = {**held}
            entries = by_call.pop(path, [])
            for call, entry in enumerate(entries):
                by_call.setdefault(renamed[path, call][0], []).append(entry)
            held.clear()
            held.update(by_call)
        self.layers.update(dict.fromkeys(names.values(), self.layers[path]))
        return list(names.values())[1:]


def observe_run(module: nn.Module, samples: Tensor, layout: str | None) -> Observation:
    """Run a copy of a module once and watch it; the module itself is left as it is.

    Args:
        module: A trained network of any framework that is known.
        samples: (samples, T, ...) float32.
        layout: Where time lies: "TB" (T, samples, ...), "BT", "flat" (samples · T, ...), "step"
            (one step a call), "last" (samples, ..., T). None: found by its neurons.

    Raises:
        TraceError: If a layer reads something that cannot be followed, or has no counterpart; all
            refusals are in one error.
    """
    own = _copy_module(module)
    for _, part in own.named_modules():
        for name in ("reset_states", "reset", "reset_mem", "reset_state"):
            if _is_neuron(part) and callable(getattr(part, name, None)):
                getattr(part, name)()
                break
    kind = next(
        (value.dtype for value in nn.Module.parameters(own) if value.is_floating_point()), None
    )
    if kind in (torch.float16, torch.bfloat16):
        own.float()  # exact; sums in half precision would decide other spikes
    elif kind is not None:
        samples = samples.to(kind)
    late = rest_blocks(own)
    watch = _Watch(Observation(layout or find_layout(own), samples.shape[1], late=late))
    watch.attach(own)
    try:
        with torch.no_grad(), watch:
            watch.finish(_run(own, samples, watch))
    except TraceError:
        raise
    except Exception as error:  # whatever a stranger's forward raises
        raise TraceError(
            f"{type(module).__name__}: does not run on samples {tuple(samples.shape)} in layout "
            f"'{watch.seen.layout}' (layout= {', '.join(LAYOUTS)}): {error}"
        ) from error
    if watch.refusals:
        lines = "\n".join(f"  {refusal}" for refusal in dict.fromkeys(watch.refusals))
        raise TraceError(f"{type(module).__name__}: cannot be taken as it is.\n{lines}")
    watch.seen.part_shared()
    return watch.seen


def _copy_module(module: nn.Module) -> nn.Module:
    """Return a copy that shares nothing with a module."""
    # States of an earlier run may hang on its graph of gradients, and such tensors have no copy.
    memo: dict[int, object] = {
        id(value): value.detach().clone()
        for _, part in module.named_modules()
        for value in _tensors(vars(part))
        if value.grad_fn is not None
    }
    for _, part in reversed(list(module.named_modules())):
        if class_of(part).startswith("sinabs.") and id(part) not in memo:
            # sinabs' own __deepcopy__ fails for layers with weights inside, the recurrent ones.
            twin = nn.Module.__new__(type(part))
            memo[id(part)] = twin
            twin.__dict__ = copy.deepcopy(vars(part), memo)
    return copy.deepcopy(module, memo)


def find_layout(module: nn.Module) -> str:
    """Return where time lies in a module's input, by the neurons in it.

    Raises:
        TraceError: If it has no neurons that are known.
    """
    for _, part in module.named_modules():
        name = class_of(part)
        own: Any = part
        if name in STEPPED or name.startswith("norse.torch.module.iaf."):
            return "step"
        if name.startswith("norse."):
            if _is_neuron(part):
                return "TB"
        elif name.startswith("snntorch.") and _is_neuron(part):
            return "step" if own.init_hidden else "TB"
        elif name.startswith("spikingjelly.") and _is_neuron(part):
            return "step" if own.step_mode == "s" else "TB"
        elif name.startswith("sinabs.") and _is_neuron(part):
            return "flat" if name.endswith("Squeeze") else "BT"
        elif name.startswith("rockpool.") and _is_neuron(part):
            return "BT"
        elif name.startswith(PACKAGE) and _is_neuron(part):
            return "last"
    raise TraceError(
        f"{type(module).__name__}: no spiking neurons that are known. Known are those of norse, "
        "snnTorch, SpikingJelly, sinabs and Rockpool, and the blocks of lava-dl."
    )


def _is_neuron(module: nn.Module) -> bool:
    try:
        return any(adapter(module) is not None for adapter in _NEURONS)
    except TraceError:
        return True


def _is_given_states(module: nn.Module) -> bool:
    """Return whether a neuron keeps no state of its own, so that one can stand at many places."""
    name = class_of(module)
    if name.startswith("snntorch."):
        return not module.init_hidden
    return name.startswith("norse.")


def _departs(module: nn.Module) -> bool:
    """Return whether a neuron cannot be computed exactly, so that its spikes prove nothing."""
    try:
        layers = [adapter(module) for adapter in _NEURONS]
    except TraceError:
        return True
    return any(layer is not None and layer.node.departures for layer in layers)


def _run(module: nn.Module, samples: Tensor, watch: _Watch) -> object:
    """Run a module on the samples, laid out as it reads them."""
    layout = watch.seen.layout
    if layout == "step":
        outputs, state = [], None
        for step in range(samples.shape[1]):
            value = watch.as_input(samples[:, step].clone())
            result = module(value) if state is None else module(value, state)
            if isinstance(result, tuple) and len(result) == 2 and not isinstance(result[1], Tensor):
                state = result[1]  # norse's SequentialState hands its states over
            outputs.append(result[0] if isinstance(result, tuple) else result)
        return outputs
    if layout == "TB":
        return module(watch.as_input(samples.movedim(1, 0).contiguous()))
    if layout == "flat":
        return module(watch.as_input(samples.flatten(0, 1)))
    if layout == "last":
        return module(watch.as_input(samples.movedim(1, -1).contiguous()))
    return module(watch.as_input(samples.clone()))


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors in arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _tensors(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _tensors(entry)


class _Watch(TorchFunctionMode):
    """Marks of tensors while a module runs."""

    def __init__(self, seen: Observation) -> None:
        super().__init__()
        self.seen = seen
        self.refusals: list[str] = []
        self.marks: dict[int, Mark] = {}
        self.kept: list[Tensor] = []  # so that no id is used twice
        self.depth = 0
        self.departs = False

    def as_input(self, value: Tensor) -> Tensor:
        """Mark a tensor as input."""
        self._mark(value, Mark(frozenset([(INPUT_PATH, 0)])))
        return value

    def _mark(self, value: Tensor, mark: Mark) -> None:
        self.kept.append(value)
        self.marks[id(value)] = mark

    def attach(self, module: nn.Module) -> None:
        """Watch every layer that is known."""
        inside: list[str] = []
        for path, part in module.named_modules():
            if any(path.startswith(f"{outer}.") for outer in inside):
                continue
            is_plain = not {name for name, _ in part.named_children()} - {"parametrizations"}
            if not _is_neuron(part) and not (is_plain and self._could_be_plain(part)):
                continue
            self.departs = self.departs or _departs(part)
            inside.append(path)
            path = path or type(part).__name__.lower()  # the module is itself a layer
            part.register_forward_pre_hook(self._before(path), with_kwargs=True)
            part.register_forward_hook(self._after(path), with_kwargs=True, always_call=True)

    @staticmethod
    def _could_be_plain(part: nn.Module) -> bool:
        try:
            return plain_layer(part, (1, 1, 1, 1)) is not None
        except TraceError:
            return True

    def _before(self, path: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            self.depth += 1
            if self.depth > 1:
                return
            values = list(_tensors((args, kwargs)))
            if path not in self.seen.layers:
                self._enter(path, part, tuple(values[0].shape) if values else ())
            first = values[0] if values else None
            if first is not None and self.departs:
                self.seen.received.setdefault(path, []).append(first.detach().clone())
            self._check_states(path, part, values[1:])
            mark = None if first is None else self.marks.get(id(first))
            reads = self.seen.reads.setdefault(path, [])
            reads.append(frozenset() if mark is None else mark.calls)
            if mark is None:
                return
            if mark.operation is not None:
                self.refusals.append(f"{path}: reads the result of {mark.operation}.")
            elif mark.is_state:
                names = ", ".join(sorted(mark.layers))
                self.refusals.append(f"{path}: reads a state of {names}, not its spikes.")

        return hook

    def _check_states(self, path: str, part: nn.Module, states: list[Tensor]) -> None:
        """Refuse states that are not the layer's own, as it returned them at the step before."""
        if path in self.seen.states:
            marks = (self.marks.get(id(state)) for state in states)
            given = frozenset[Call]().union(*(mark.calls for mark in marks if mark is not None))
            self.seen.states[path].append(given)
        for state in states:
            mark = self.marks.get(id(state))
            if mark is None:
                if class_of(part).startswith("snntorch.") and bool(torch.any(state != 0)):
                    self.refusals.append(f"{path}: starts from a state other than zero.")
            elif mark.operation is not None:
                self.refusals.append(f"{path}: its state is the result of {mark.operation}.")
            elif mark.layers != {path}:
                names = ", ".join(sorted(mark.layers))
                self.refusals.append(f"{path}: its state is one of {names}.")

    def _enter(self, path: str, part: nn.Module, shape: tuple[int, ...]) -> None:
        try:
            layer = slayer_block(part, shape)
            layer = layer or next((own for adapter in _NEURONS if (own := adapter(part))), None)
            layer = layer or plain_layer(part, shape)
        except TraceError as error:
            self.refusals.append(f"{path}: {error}")
            layer = None
        if layer is not None:
            self.seen.layers[path] = layer
        if not _is_neuron(part) or _is_given_states(part):
            self.seen.states[path] = []

    def _after(self, path: str) -> Callable[..., None]:
        def hook(
            part: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], result: object
        ) -> None:
            del part, args, kwargs
            self.depth -= 1
            if self.depth:
                return
            outputs = list(_tensors(result))
            layer = self.seen.layers.get(path)
            if not outputs or layer is None:
                return
            call = frozenset([(path, len(self.seen.reads[path]) - 1)])
            for place, output in enumerate(outputs):
                is_value = output is outputs[0] or place == layer.output
                self._mark(output, Mark(call, is_state=not is_value))
            value = outputs[min(layer.output, len(outputs) - 1)]
            self.seen.sent.setdefault(path, []).append(value.detach().clone())

        return hook

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """Run a function of torch, and mark its result if it is between layers."""
        del types
        given = kwargs or {}
        if self.depth:
            return func(*args, **given)
        marks = [self.marks.get(id(value)) for value in _tensors((args, given))]
        result = func(*args, **given)
        name = getattr(func, "__name__", str(func))
        known = [mark for mark in marks if mark is not None]
        if not known:
            return result
        calls = frozenset[Call]().union(*(mark.calls for mark in known))
        operation = next((mark.operation for mark in known if mark.operation), None)
        is_state = any(mark.is_state for mark in known)
        if name == "__setitem__":
            self._assign(args[0], args[2], calls, operation)
            return result
        is_sum = all(mark.is_sum and mark.layers == known[0].layers for mark in known)
        if name in _ADDS:
            operation = operation or self._fault_of_sum(args, known)
            is_sum = operation is None and not is_state
        elif name not in _PASSES_ON:
            operation = operation or f"torch.{name}"
        for value in _tensors(result):
            self._mark(value, Mark(calls, operation, is_state, is_sum))
        return result

    def _assign(
        self, target: object, value: object, calls: frozenset[Call], operation: str | None
    ) -> None:
        """Mark a tensor into which values were written: a loop's results, or a change of values."""
        before = self.marks.get(id(target))
        is_moved = id(value) in self.marks and (
            before is None or {name for name, _ in before.calls} == {name for name, _ in calls}
        )
        if isinstance(target, Tensor):
            self._mark(target, Mark(calls, operation or (None if is_moved else "an assignment")))

    def _fault_of_sum(self, args: tuple[object, ...], known: list[Mark]) -> str | None:
        terms = args[:2]
        if len(known) == len([term for term in terms if isinstance(term, Tensor)]) == len(terms):
            shared = known[0].calls & known[1].calls if len(known) > 1 else frozenset()
            return "a sum of a value with itself" if shared else None
        others = [term for term in terms if not isinstance(term, Tensor)]
        if others and all(isinstance(term, int | float) and term == 0 for term in others):
            return None
        unmarked = [t for t in terms if isinstance(t, Tensor) and id(t) not in self.marks]
        if unmarked and self.seen.steps == 1:
            return "a sum with what a first step begins with. Give samples of 2 steps or more"
        if unmarked and not any(bool(torch.any(t != 0)) for t in unmarked):
            return None  # the zeros that a loop begins with
        return "a sum with a constant"

    def finish(self, result: object) -> None:
        """Note the layer whose values the module returned."""
        first = result if isinstance(result, list) else next(_tensors(result), None)
        values = list(_tensors(first))
        marks = [mark for value in values if (mark := self.marks.get(id(value))) is not None]
        if not marks and values:
            self.refusals.append("the result: comes from no layer that is known.")
        self.seen.result = frozenset[Call]().union(*(mark.calls for mark in marks))
        self.seen.is_sum = all(mark.is_sum for mark in marks)


def stack_calls(outputs: list[Tensor], layout: str, samples: int, steps: int) -> np.ndarray:
    """Return a layer's values, one tensor a call, as (samples, T, ...)."""
    if len(outputs) == steps and outputs[0].shape[0] == samples:
        return torch.stack(outputs, 1).numpy()
    (value,) = outputs if len(outputs) == 1 else (torch.stack(outputs),)
    if layout == "flat":
        return value.reshape(samples, steps, *value.shape[1:]).numpy()
    if layout == "last":
        return value.movedim(-1, 1).numpy()
    return (value.movedim(0, 1) if layout == "TB" else value).numpy()
