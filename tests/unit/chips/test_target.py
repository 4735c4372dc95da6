"""Targets: every limit has a source, and malformed files are refused."""

from __future__ import annotations

import pytest

from neurodeploy.chips.target import (
    EVIDENCE,
    REQUIRED,
    Target,
    list_targets,
)
from neurodeploy.errors import TargetError

LIMIT = '[limits.{name}]\nvalue = {value}\nunit = "u"\nsource = "s"\nevidence = "source"\n'


def target_text(**changes: object) -> str:
    values = {name: -1 if name.endswith("_min") else 1 for name in REQUIRED} | changes
    limits = "".join(LIMIT.format(name=name, value=value) for name, value in values.items())
    return f'name = "mine"\ndescription = "d"\n{limits}'


def test_the_three_targets_are_there():
    assert {"loihi1", "loihi2", "lava-cpu"} <= set(list_targets())


@pytest.mark.parametrize("name", list_targets())
def test_every_limit_has_unit_source_and_evidence(name):
    target = Target.load(name)
    assert target.name == name
    assert set(REQUIRED) <= set(target.limits)
    for limit in target.limits.values():
        assert limit.unit
        assert limit.source
        assert limit.evidence in EVIDENCE


@pytest.mark.parametrize("name", ["loihi2", "lava-cpu"])
def test_mixed_weights_are_those_of_the_chip(name):
    target = Target.load(name)
    assert (target.weight_min, target.weight_max) == (-256, 254)
    assert (target.threshold_max, target.bias_max) == (131071, 32767)


def test_reads_a_users_own_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(target_text(weight_max=7), encoding="utf-8")
    assert Target.load(path).weight_max == 7


def test_names_the_targets_there_are():
    with pytest.raises(TargetError, match="loihi2"):
        Target.load("loihi3")


def test_says_which_limit_is_not_stated(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(target_text(), encoding="utf-8")
    with pytest.raises(TargetError, match="no limit 'cores'"):
        Target.load(path).limit("cores")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name =", "= name", "not valid TOML"),
        ('description = "d"', 'description = "d"\ncolor = "red"', "unknown key 'color'"),
        ('description = "d"', "description = 1", "description = 1, a string is required"),
        ("[limits.bias_max]", "[limits.bias_least]", "bias_max are missing"),
        ('value = 1\nunit = "u"', 'value = 1.5\nunit = "u"', "value = 1.5, an integer is required"),
        ('source = "s"', 'source = ""', "every number has a source"),
        ('evidence = "source"', 'evidence = "rumour"', "rumour"),
        ('unit = "u"\n', "", "exactly the keys"),
        ("value = 1\n", "value = 0\n", r"value = 0, 1 to 2147483647 are allowed"),
        ("value = 1\n", "value = 2147483648\n", r"value = 2147483648, .* are allowed"),
    ],
)
def test_refuses_malformed_files(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    path.write_text(target_text().replace(old, new, 1), encoding="utf-8")
    with pytest.raises(TargetError, match=message):
        Target.load(path)
