"""Energy as ranges: presets with their evidence, formulas, estimates, fairness of comparisons."""
