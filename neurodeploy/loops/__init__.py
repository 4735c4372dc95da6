"""A compiler of plain loops: a small part of Python, made machine code by LLVM alone.

Functions marked `linking.linked` compute with integers, arrays in C order and records of int64, and
call each other and vector functions (`neurodeploy.llvm_vectors`). A variable has the type of what
is assigned to it first, so that one walk through the text is enough: numba, whose types may be any
and are inferred, takes four times as long.

- Numbers are int64 or uint64, and no operation has both, but constants go with either. What arrays
  hold is widened to compute with, and cut when it is written. A variable that begins as int32 stays
  so; `np.int64(...)` widens it.
- Indices count from the front and are not checked. Steps of a range are positive. All parts of a
  chain of comparisons are computed; `and` and `or` give truth values.
- `np.empty` and `np.zeros` make arrays that live until the call from Python ends; they stand
  outside of loops.

Whatever else is met is a `SyntaxError` that names its line.

    operands      numbers in registers, arrays and records
    texts         functions as text, and what their names stand for
    expressions   from expressions to instructions
    function_body from statements to instructions
    linking       a function and all that it calls, as one piece of machine code
"""
