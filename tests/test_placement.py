"""Placement: which trial starts where, in worlds that hypothesis generates and in examples."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trials import Trial

from benchmarks.scale import scheduling
from sweep.cluster import InfeasibleTrial, infeasible_error
from sweep.cluster.placement import Node, Placement, QueuedTrial, Shape, why_infeasible


@dataclass(frozen=True)
class Wants:
    """What a trial asks for."""

    cpu: float = 1
    gpu: float = 0
    memory: int | None = None
    exclusive: bool = False
    custom: Mapping[str, float] = field(default_factory=dict)


def node(name: str, cpu: float = 2, gpu: float = 0, **other: float) -> Node:
    return Node(name, name, {"CPU": cpu, "GPU": gpu, "memory": 8e9, **other})


def waiting(order: int, pair: int = 0, **wants: object) -> QueuedTrial:
    return QueuedTrial(order, Shape.of(Wants(**wants)), pair, f"trial {order}")  # type: ignore[arg-type]


class World:
    """Nodes and what runs on them. Every start is checked; the order of ends is random, by seed."""

    def __init__(self, nodes: list[Node], trials: list[QueuedTrial], seed: int = 0) -> None:
        self.nodes = {each.id: each for each in nodes}
        self.placement = Placement(self.nodes)
        self.chance = random.Random(seed)
        self.running: dict[str, list[QueuedTrial]] = defaultdict(list)
        self.started: list[tuple[int, str]] = []
        self.ended: Counter[int] = Counter()
        for trial in trials:
            self.placement.put(trial)

    def start_all(self) -> list[tuple[int, str]]:
        """Start what can be started now."""
        before = len(self.started)
        while placed := self.placement.next():
            trial, where = placed
            self.running[where.id].append(trial)
            self.started.append((trial.order, where.id))
            self.check(where)
        return self.started[before:]

    def check(self, where: Node) -> None:
        there = self.running[where.id]
        assert len(there) == 1 or not any(each.shape.exclusive for each in there), (
            "an exclusive trial has company"
        )
        for name in {name for each in there for name, _ in each.shape.amounts}:
            assert (
                sum(each.shape.amount(name) for each in there)
                <= where.resources.get(name, 0) + 1e-6
            )

    def end(self, where: str, order: int) -> None:
        (trial,) = [each for each in self.running[where] if each.order == order]
        self.running[where].remove(trial)
        self.ended[order] += 1
        self.placement.release(trial, where)

    def end_one(self) -> bool:
        under_way = [
            (where, each.order) for where in sorted(self.running) for each in self.running[where]
        ]
        if under_way:
            self.end(*self.chance.choice(under_way))
        return bool(under_way)

    def run(self) -> World:
        """To the end; every trial that is not infeasible has then ended once."""
        self.start_all()
        while self.end_one():
            self.start_all()
        assert len(self.placement) == 0, "trials wait, and nothing runs"
        return self

    def lose(self, name: str, avoid: bool = False) -> None:
        """The node dies; what ran there waits again, as the cluster has it."""
        del self.nodes[name]
        there = [
            each._replace(trial=object()) for each in self.running.pop(name, [])
        ]  # another attempt
        for trial in there:
            self.placement.release(trial, name)
        if avoid:
            for trial in there:
                self.placement.put(trial, avoid=name)
        self.placement.remove(name)
        if not avoid:
            for trial in there:
                self.placement.put(trial)


shapes = st.builds(
    Wants,
    cpu=st.sampled_from([0.5, 1, 2, 4]),
    gpu=st.sampled_from([0, 0, 0, 1 / 3, 1, 2]),
    memory=st.sampled_from([None, 1_000_000_000, 6_000_000_000]),
    exclusive=st.booleans(),
    custom=st.sampled_from([{}, {}, {"disk": 1.0}]),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    nodes = [
        node(
            f"n{number}",
            draw(st.sampled_from([1, 2, 4, 8])),
            draw(st.sampled_from([0, 0, 1, 4])),
            disk=number % 2,
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    kinds = draw(st.lists(shapes, min_size=1, max_size=4))
    trials = [
        QueuedTrial(order, Shape.of(draw(st.sampled_from(kinds))), order // 5, None)
        for order in range(draw(st.integers(1, 40)))
    ]
    return World(nodes, trials, draw(st.integers(0, 999)))


@given(worlds())
@settings(deadline=None)
def test_every_trial_that_a_node_can_hold_runs_once_and_no_exclusive_one_in_company(
    world: World,
) -> None:
    possible = {
        each.order
        for each in world.placement.waiting(100)
        if why_infeasible(each.shape, world.nodes.values()) is None
    }
    infeasible = {each.order for each in world.placement.waiting(world.placement.infeasible)}
    world.run()
    assert world.ended == dict.fromkeys(possible, 1)
    assert not infeasible & possible


@given(worlds(), st.data())
@settings(deadline=None)
def test_nodes_that_come_and_go_lose_no_trial(world: World, data: st.DataObject) -> None:
    everything = {each.order for each in world.placement.waiting(100)}
    for number in range(data.draw(st.integers(1, 6))):
        world.start_all()
        world.end_one()
        if data.draw(st.booleans()) and world.nodes:
            world.lose(
                data.draw(st.sampled_from(sorted(world.nodes))), avoid=data.draw(st.booleans())
            )
        else:
            name = f"late{number}"
            world.nodes[name] = node(name, 8, 2, disk=1)
            world.placement.add(world.nodes[name])
    world.nodes["last"] = node("last", 8, 8, disk=1)
    world.placement.add(world.nodes["last"])
    world.run()
    assert world.ended == dict.fromkeys(everything, 1)
    assert world.placement.infeasible == 0


@given(st.lists(shapes, min_size=1, max_size=30), st.integers(0, 99))
@settings(deadline=None)
def test_on_one_node_trials_start_in_the_order_of_the_plan(wants: list[Wants], seed: int) -> None:
    trials = [
        QueuedTrial(order, Shape.of(each), order // 4, None) for order, each in enumerate(wants)
    ]
    world = World([node("n", 8, 4, disk=1)], trials, seed).run()
    assert [order for order, _ in world.started] == sorted(order for order, _ in world.started)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_large_trial_is_not_passed_by_for_ever(exclusive: bool) -> None:
    """Small trials keep coming and never end together; the large one needs an empty node."""
    world = World([node("a"), node("b")], [waiting(order) for order in range(4)])
    world.start_all()
    world.placement.put(waiting(4, pair=1, cpu=2, exclusive=exclusive))
    for order in range(5, 15):
        world.placement.put(waiting(order))
        world.start_all()
        if 4 in dict(world.started):
            return
        world.end_one()
    pytest.fail("the large trial never started")


def test_a_pair_runs_on_one_node() -> None:
    """Of three equal nodes, each of three blocks stays on the node of its first trial."""
    trials = [waiting(order, pair=order // 4, cpu=2, exclusive=True) for order in range(12)]
    world = World([node("a"), node("b"), node("c")], trials)
    for _ in range(4):
        world.start_all()
        for name in "abc":
            world.end(name, world.running[name][0].order)
    affinity = {order // 4: where for order, where in world.started}
    assert len(set(affinity.values())) == 3
    assert all(affinity[order // 4] == where for order, where in world.started)


def test_nodes_of_one_kind_help_out_and_others_do_not() -> None:
    """An idle node borrows trials of a block whose affinity node is of the same kind."""
    trials = [waiting(order, pair=0, cpu=2, exclusive=True) for order in range(6)]
    world = World([node("a"), node("twin"), node("other", cpu=4)], trials)
    world.run()
    counts = Counter(where for _, where in world.started)
    first = world.started[0][1]
    helpers = {"a": {"a", "twin"}, "twin": {"a", "twin"}, "other": {"other"}}[first]
    assert set(counts) == helpers


def test_gpu_trials_go_to_gpu_nodes_and_the_others_elsewhere_first() -> None:
    trials = [waiting(order, pair=order) for order in range(3)]
    trials += [waiting(order, pair=order, gpu=1) for order in range(3, 6)]
    world = World([node("dear", cpu=4, gpu=2), node("plain", cpu=2)], trials)
    places = dict(world.start_all())
    assert places == {0: "plain", 1: "plain", 3: "dear", 4: "dear", 2: "dear"}
    assert len(world.placement) == 1


def test_an_idle_gpu_node_takes_a_trial_without_gpu() -> None:
    world = World(
        [node("dear", gpu=1), node("plain", cpu=1)],
        [waiting(order, pair=order) for order in range(3)],
    )
    assert sorted(where for _, where in world.start_all()) == ["dear", "dear", "plain"]


def test_thirds_of_a_gpu_make_a_gpu() -> None:
    world = World([node("n", cpu=8, gpu=1)], [waiting(order, gpu=1 / 3) for order in range(4)])
    assert len(world.start_all()) == 3


def test_a_trial_keeps_away_from_the_node_where_it_failed() -> None:
    """Also while that node idles and the other is busy."""
    world = World(
        [node("bad"), node("good")], [waiting(order, pair=order, cpu=2) for order in range(2)]
    )
    places = dict(world.start_all())
    failed = next(order for order, where in places.items() if where == "bad")
    world.running.pop("bad")
    world.placement.release(waiting(failed, cpu=2), "bad")
    world.placement.put(waiting(failed, pair=failed, cpu=2), avoid="bad")
    assert world.start_all() == []
    world.end("good", 1 - failed)
    assert world.start_all() == [(failed, "good")]


def test_a_trial_goes_back_to_the_node_where_it_failed_rather_than_nowhere() -> None:
    world = World([node("only")], [])
    world.placement.put(waiting(0), avoid="only")
    assert world.start_all() == [(0, "only")]


def test_infeasible_trials_come_back_with_a_node_that_can_hold_them() -> None:
    world = World([node("plain")], [waiting(0, gpu=1), waiting(1)])
    assert [order for order, _ in world.start_all()] == [1]
    assert [each.order for each in world.placement.waiting(world.placement.infeasible)] == [0]
    world.placement.add(node("dear", gpu=1))
    assert world.start_all() == [(0, "dear")]


@pytest.mark.parametrize(
    ("wants", "reason"),
    [
        (Wants(gpu=1), "want a GPU and no node has one"),
        (Wants(cpu=64), "want 64 cores and the largest node has 8 cores"),
        (
            Wants(memory=99_000_000_000),
            "want 99.0 GB of memory and the largest node has 8.0 GB of memory",
        ),
        (Wants(custom={"tpu": 1}), "want the resource 'tpu' and no node has it"),
        (Wants(custom={"disk": 3}), "want 3 disk and the largest node has 1 disk"),
        (Wants(cpu=8, custom={"disk": 1}), "want 8 cores and 1 disk together and no node has both"),
        (Wants(cpu=8), None),
    ],
)
def test_why_no_node_can_hold_a_trial_is_said_with_its_figures(
    wants: Wants, reason: str | None
) -> None:
    assert (
        why_infeasible(Shape.of(wants), [node("large", cpu=8), node("small", cpu=2, disk=1)])
        == reason
    )


def test_a_pass_over_simulated_nodes_that_die_under_their_trials_loses_none() -> None:
    told = scheduling(20_000, 50)
    ok, died = (
        int(found.replace(",", "")) for found in re.findall(r"([\d,]+) (?:ok|nodes died)", told)
    )
    assert ok == 20_000
    assert died > 5


def test_trials_of_too_many_cores_are_told_of_threads_which_take_one_each() -> None:
    trial = Trial("x", resources=Wants(cpu=64))
    reason = why_infeasible(Shape.of(trial.resources), [node("n", cpu=2)])
    assert reason == "want 64 cores and the largest node has 2 cores"
    assert infeasible_error([InfeasibleTrial(trial, reason)], 1).hint.startswith(
        "lower `threads` or `resources.cpu`, "
    )
    assert infeasible_error(
        [InfeasibleTrial(trial, "want a GPU and no node has one")], 1
    ).hint.startswith("start a node with a GPU")


def test_a_pass_over_simulated_nodes_that_come_when_trials_want_them_and_die_loses_none() -> None:
    told = scheduling(20_000, 50, is_growing=True)
    ok, came, died = (
        int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:ok|nodes came|nodes died)", told)
    )
    assert ok == 20_000
    assert died > 5
    assert 50 <= came < 100, "a node comes for many trials"
