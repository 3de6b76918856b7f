"""Demand: what an autoscaler is asked for, so that every trial that waits can run and no node starts without one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trials import Wants

from sweep.cluster.autoscaler import NodeType, from_config
from sweep.cluster.demand import PIECES_MOST, pieces
from sweep.cluster.placement import Node, Shape

CPU = NodeType("cpu", {"CPU": 8.0}, 4)
GPU_1 = NodeType("gpu-1", {"CPU": 8.0, "GPU": 1.0}, 4)
GPU_4 = NodeType("gpu-4", {"CPU": 48.0, "GPU": 4.0}, 2)
ALONE = Shape.of(Wants(exclusive=True))
CORE = Shape.of(Wants())
ON_GPU = Shape.of(Wants(gpu=1))


def node(name: str, cpu: float = 8, gpu: float = 0) -> Node:
    return Node(name, name, {"CPU": cpu, "GPU": gpu} if gpu else {"CPU": cpu})


def of(**amounts: float) -> tuple[tuple[str, float], ...]:
    return tuple(sorted((name, float(amount)) for name, amount in amounts.items()))


def test_an_exclusive_trial_asks_for_a_node_of_its_own() -> None:
    assert pieces({ALONE: 3}, [], [], [CPU, GPU_1]) == {of(CPU=8): 3}


def test_trials_that_share_a_node_ask_for_as_many_nodes_as_they_fill() -> None:
    assert pieces({CORE: 19}, [], [], [CPU]) == {of(CPU=8): 2, of(CPU=3): 1}
    fraction = Shape.of(Wants(gpu=0.25))
    assert pieces({fraction: 6}, [], [], [CPU, GPU_1, GPU_4]) == {
        of(CPU=4, GPU=1): 1,
        of(CPU=2, GPU=0.5): 1,
    }


def test_nodes_that_are_being_prepared_count() -> None:
    assert pieces({ALONE: 3, ON_GPU: 2}, [node("a"), node("b", gpu=1)], [], [CPU, GPU_1]) == {
        of(CPU=8): 2,  # the node with a GPU is not for them
        of(CPU=1, GPU=1): 1,
    }
    assert pieces({ALONE: 1, CORE: 8}, [node("a"), node("b")], [], [CPU]) == {}


def test_no_more_is_asked_for_trials_without_gpu_than_nodes_without_gpu_can_hold() -> None:
    """Else the autoscaler would start nodes with a GPU for them, once it has no others left to start."""
    assert pieces({ALONE: 100}, [], [node("a"), node("b")], [CPU, GPU_1]) == {of(CPU=8): 2}
    assert pieces({ALONE: 100}, [], [], [GPU_1]) == {of(CPU=8): 100}


def test_of_nodes_of_unknown_size_one_at_least_is_asked_for_that_may_be_small() -> None:
    assert pieces({ALONE: 5}, [], [], None) == {of(CPU=1): 5}
    assert pieces({ALONE: 5}, [], [node("a", cpu=16), node("b", cpu=4)], None) == {
        of(CPU=4): 4,
        of(CPU=1): 1,
    }


def test_memory_that_no_type_declares_is_not_asked_for() -> None:
    large = Shape.of(Wants(memory=10**9))
    assert pieces({large: 1}, [], [], [CPU]) == {of(CPU=1): 1}
    declared = NodeType("large", {"CPU": 2.0, "memory": 4e9}, 1)
    assert pieces({large: 2}, [], [], [declared]) == {of(CPU=2, memory=2e9): 1}


def test_what_is_asked_for_at_once_has_an_end() -> None:
    assert pieces({ALONE: 10**6, ON_GPU: 10**6}, [], [], None).total() == PIECES_MOST


shapes = st.builds(
    Wants,
    cpu=st.sampled_from([0.5, 1, 2, 8]),
    gpu=st.sampled_from([0, 0, 0.25, 1, 4]),
    exclusive=st.booleans(),
)


@given(
    st.dictionaries(shapes.map(Shape.of), st.integers(1, 40), max_size=4),
    st.integers(0, 3),
    st.booleans(),
)
@settings(deadline=None)
def test_never_more_pieces_than_trials_and_each_fits_a_node_that_can_come(
    waiting: dict[Shape, int], coming: int, is_known: bool
) -> None:
    types = [CPU, GPU_1, GPU_4]
    asked = pieces(
        waiting, [node(str(number)) for number in range(coming)], [], types if is_known else None
    )
    assert asked.total() <= sum(waiting.values())
    for piece in asked:
        assert any(Shape(piece, False).fits(kind.resources) for kind in types)


def test_what_the_head_was_started_with_says_which_nodes_can_come() -> None:
    config = {
        "max_workers": 3,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 2}},
            "cpu": {"resources": {"CPU": 8}, "max_workers": 8},
            "never": {"resources": {"CPU": 8}, "max_workers": 0},
        },
    }
    assert from_config(config, reports=True).types == (NodeType("cpu", {"CPU": 8.0}, 3),)
    assert str(from_config(config, reports=True)) == "the cluster can start up to 3 cpu (8 cores)"


@pytest.mark.parametrize(
    ("config", "reports", "can_grow"),
    [({}, True, False), (None, False, False), (None, True, True)],
    ids=["a monitor without configuration", "no monitor", "an autoscaler elsewhere"],
)
def test_a_cluster_that_was_started_by_hand_has_no_autoscaler(
    config: None, reports: bool, can_grow: bool
) -> None:
    assert (from_config(config, reports) is not None) == can_grow


def test_counts_of_trials_are_left_as_they_are() -> None:
    waiting = Counter({CORE: 5})
    pieces(waiting, [node("a")], [], [CPU])
    assert waiting == {CORE: 5}
