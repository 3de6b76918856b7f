"""The plan: randomised complete blocks, less what is done."""

from __future__ import annotations

from test_grid import CORE_TIME

from sweep import catalog, grid, schedule

TRIALS = grid.expand(grid.parse(CORE_TIME), catalog.frameworks(), catalog.workloads()).trials


def test_each_block_holds_every_cell_once():
    blocks: dict[int, list[str]] = {}
    for trial in schedule.plan(TRIALS):
        blocks.setdefault(trial.block, []).append(trial.cell.id)

    assert [len(block) for block in blocks.values()] == [20] * 3
    assert all(len(set(block)) == 20 for block in blocks.values())


def test_what_remains_keeps_order_block_and_position_of_the_whole_plan():
    whole = schedule.plan(TRIALS)
    done = {trial.id: ("ok", 1) for trial in whole[::2]}

    assert schedule.plan(TRIALS, done) == whole[1::2]
