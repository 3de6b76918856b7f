"""pyperf's runner around a step, with one worker process.

Run `pyperf_step.py --batch BATCH --values SAMPLES -o FILE`.
"""

import sys
import time
from pathlib import Path

import pyperf

sys.path.insert(0, str(Path(__file__).parents[1] / "plain"))


def forward(command, arguments):
    command.extend(["--batch", str(arguments.batch)])


runner = pyperf.Runner(
    processes=1, warmups=3, loops=1, program_args=(sys.argv[0],), add_cmdline_args=forward
)
runner.argparser.add_argument("--batch", type=int)
arguments = runner.parse_args()
if arguments.worker:
    from torch_step import step

    clear, take = step(arguments.batch)
else:
    clear = take = None


def once(_loops):
    """Return the seconds of one step, with its gradients cleared before.

    pyperf provides this form for code of which only a part is timed.
    """
    clear()
    start = time.perf_counter()
    loss = take()
    seconds = time.perf_counter() - start
    del loss
    return seconds


runner.bench_time_func("step", once)
