"""Energy of one inference as a range, with its evidence, and the fairness of comparisons.

In reading order:

- `presets`: constants of one technology or chip, each with its source.
- `formulas`: the operations of one inference as plain numbers, and picojoules by term.
- `estimates`: the energy of a network and of an ANN, with bounds; the shortest step of a chip.
- `measured`: counters of a real chip in place of counted ones.
- `fairness`: the rules that allow one ratio as a headline, published break-evens, and the ANN in
  int8, narrow int8 and fp32.
- `predicted_costs`: the cost of a frame from the sizes of a network, before it is deployed.
- `frame_anns`: the ANN on sequences of frames, which skips zeros, or frames that repeat.
- `sensitivity`: the influence of each assumption.
- `other_machines`: published figures of other machines, for context.
"""
