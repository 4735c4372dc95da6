"""From statements to LLVM's instructions."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from neurodeploy.loops.expressions import Expressions, Unit, Variable
from neurodeploy.loops.operands import Number, Value, constant, kind_of, rebuild, registers, resized
from neurodeploy.loops.texts import FunctionText


class Body(Expressions):
    """Runs the statements of one function; arguments are those of `Expressions`."""

    def __init__(self, unit: Unit, text: FunctionText, builder: Any, *, may_make: bool) -> None:
        super().__init__(unit, text, builder, may_make=may_make)
        self._result: Variable | None = None
        self._end = builder.append_basic_block("end")

    def run(self, arguments: Sequence[Value]) -> Value:
        """Run the function, and go on behind it; return what it returned."""
        tree = self._text.tree()
        for parameter, argument in zip(tree.args.args, arguments, strict=True):
            self._assign(parameter.arg, argument, tree)
        self._run_all(tree.body)
        self._build.branch(self._end)
        self._build.position_at_end(self._end)
        return None if self._result is None else self._load(self._result)

    def _assign(self, name: str, value: Value, node: ast.AST) -> None:
        if name == "_":
            return
        if name not in self._variables:
            self._variables[name] = self._new_variable(value)
        self._keep(self._variables[name], value, node)

    def _new_variable(self, value: Value) -> Variable:
        with self._build.goto_entry_block():
            slots = [self._build.alloca(one.type) for one in registers(value)]
        return Variable(rebuild(value, iter(registers(value))), slots)

    def _keep(self, variable: Variable, value: Value, node: ast.AST) -> None:
        value = self._fitted(value, variable.like, node)
        for slot, register in zip(variable.slots, registers(value), strict=True):
            self._build.store(register, slot)

    def _fitted(self, value: Value, like: Value, node: ast.AST) -> Value:
        """Return a value as one of the kind of another."""
        if isinstance(like, tuple) and isinstance(value, tuple) and len(like) == len(value):
            pairs = zip(value, like, strict=True)
            return tuple([self._fitted(one, other, node) for one, other in pairs])
        if isinstance(like, Number) and isinstance(value, Number):
            has_sign = value.is_signed == like.is_signed or value.bits == 1 or value.is_constant
            if has_sign and value.bits <= like.bits:
                return Number(resized(self._build, value, like.bits), like.is_signed)
        if kind_of(value) != kind_of(like):
            self._refuse(node, f"is {kind_of(value)}, was {kind_of(like)} before")
        return value

    def _run_all(self, nodes: Sequence[ast.stmt]) -> None:
        for node in nodes:
            self._run(node)

    def _run(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value):
                self._evaluate(value)
            case ast.Assign(targets, value):
                found = self._value(value)
                for target in targets:
                    self._write(target, found)
            case ast.AugAssign(ast.Name(name) as target, operator, value):
                total = self._compute(operator, self._number(target), self._number(value), node)
                self._assign(name, total, node)
            case ast.AugAssign(target, operator, value):
                added = self._number(value)
                place, dtype = self._place(target)
                self._put(
                    place, dtype, self._compute(operator, self._get(place, dtype), added, node)
                )
            case ast.If(test, body, otherwise):
                after = self._build.append_basic_block("after")
                for block, nodes in zip(self._fork(test), (body, otherwise), strict=True):
                    self._build.position_at_end(block)
                    self._run_all(nodes)
                    self._build.branch(after)
                self._build.position_at_end(after)
            case ast.While(test, body, []):
                self._repeat(lambda: self._truth(test), body)
            case ast.For(ast.Name(name), ast.Call(ast.Name("range"), limits), _, []):
                self._count(node, name, [self._number(limit) for limit in limits])
            case ast.Return(value):
                found = None if value is None else self._value(value)
                if self._result is None:
                    self._result = self._new_variable(found)
                self._keep(self._result, found, node)
                self._leave(self._end)
            case ast.Continue() | ast.Break():
                self._leave(self._loops[-1][isinstance(node, ast.Break)])
            case _:
                self._refuse(node, "loops know no such statement")

    def _leave(self, block: Any) -> None:
        """Go to a block; what follows in the text is never reached."""
        self._build.branch(block)
        self._build.position_at_end(self._build.append_basic_block("unreached"))

    def _repeat(
        self,
        test: Callable[[], Any],
        body: Sequence[ast.stmt],
        *,
        begin: Callable[[], None] = lambda: None,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        """While a test holds, begin, run statements and step on."""
        again, inside, following, after = (
            self._build.append_basic_block(name) for name in ("again", "inside", "next", "after")
        )
        self._build.branch(again)
        self._build.position_at_end(again)
        self._build.cbranch(test(), inside, after)
        self._build.position_at_end(inside)
        begin()
        self._loops.append((following, after))
        self._run_all(body)
        self._loops.pop()
        self._build.branch(following)
        self._build.position_at_end(following)
        step()
        self._build.branch(again)
        self._build.position_at_end(after)

    def _count(self, loop: ast.For, name: str, limits: list[Number]) -> None:
        """Run a loop over a range, whose step is positive."""
        if len(limits) == 1:
            limits = [constant(0), *limits]
        first, stop, step = (*limits, constant(1))[:3]
        is_signed = self._sign_of(loop, first, stop, step)
        first, stop, step = (Number(self._wide(one), is_signed) for one in (first, stop, step))
        counter = self._new_variable(first)
        self._keep(counter, first, loop)
        (slot,) = counter.slots
        compare = self._build.icmp_signed if is_signed else self._build.icmp_unsigned

        def go_on() -> None:
            flags = ("nsw" if is_signed else "nuw",)
            after = self._build.add(self._build.load(slot), step.value, flags=flags)
            self._build.store(after, slot)

        self._repeat(
            lambda: compare("<", self._build.load(slot), stop.value),
            loop.body,
            begin=lambda: self._assign(name, self._load(counter), loop),
            step=go_on,
        )

    def _write(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(name):
                self._assign(name, value, target)
            case ast.Tuple(targets):
                if not isinstance(value, tuple) or len(value) != len(targets):
                    self._refuse(target, "not as many values")
                for one, part in zip(targets, value, strict=True):
                    self._write(one, part)
            case _:
                place, dtype = self._place(target)
                self._put(place, dtype, self._checked(value, target))
