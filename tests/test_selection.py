"""Selection: which values a condition means."""

from __future__ import annotations

import pytest

from sweep.selection import is_value, matches


@pytest.mark.parametrize(
    ("wanted", "value", "is_meant"),
    [
        ("torch", "torch==2.13.0", True),
        ("torch", "torchish==2.13.0", False),
        ("torch==2.*", "torch==2.13.0", True),
        ("torch==2.13.0", "torch==2.13.0", True),
        ("torch>=2", "torch==2.13.0", True),
        ("torch>=2.9", "torch==2.13.0", True),  # as versions, not as texts
        ("torch<2", "torch==2.13.0", False),
        ("torch >= 1, < 2", "torch==1.13.1", True),
        ("torch>=1,<2", "torch==2.0.0", False),
        ("torch~=2.1", "torch==2.13.0", True),
        ("torch!=2.13.0", "torch==2.12.0", True),
        ("chainer>=2", "torch==2.13.0", False),
        ("torch>=2", "torch==mybuild", False),
        ("torch>=2", "reference", False),
        (">=2", "2.13.0", True),
        (">=2", "torch==2.13.0", False),
        (">=0.1.10,<0.1.13", "0.1.12.post2", True),
        (">3", 4, True),
        (">=3, !=5", 5, False),
        ("<0.1", 0.05, True),
        ("<0.05", 0.1, False),
        ("a>3", 4, False),
        ("<3", "native", False),
        ("<3", None, False),
        ("<", "<", True),
        (3, 3, True),
        ("3", 3, True),
        (True, True, True),
        ("true", True, True),
        ("null", None, True),
    ],
)
def test_a_value_is_meant_by_itself_a_glob_a_bare_framework_or_bounds(wanted, value, is_meant):
    assert is_value(value, wanted) is is_meant


def test_every_condition_must_hold_and_any_value_of_a_list_will_do():
    axes = {"framework": "torch==2.13.0", "batch_exponent": 5}

    assert matches(axes, {"framework": ["chainer", "torch>=2"], "batch_exponent": ">4"})
    assert not matches(axes, {"framework": ["chainer", "torch>=2"], "batch_exponent": "<5"})
