"""Recipes: all that a run depends on, read from TOML and checked once.

network_sections   [network]: layers one by one, or an architecture by its name
data_sections      [data]: the source of the samples
training_sections  all other sections
layouts            from an architecture to its layers and their shapes
recipe_keys        every key with its type, default, limits and meaning
recipe             the whole recipe, its variants and overrides; the recipes of neurodeploy
"""
