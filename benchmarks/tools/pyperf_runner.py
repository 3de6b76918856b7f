"""The runner for pyperf: each of its worker processes is a trial."""

import sys
from importlib.machinery import SourceFileLoader

import pyperf


def forward(command, arguments):
    command.extend(
        ["--count", str(arguments.count), "--module", arguments.module, "--trial", arguments.trial]
    )


def one(loops):
    return sum(trial.work(arguments.module) for _ in range(loops)) or 1e-9


runner = pyperf.Runner(
    values=1, warmups=0, loops=1, program_args=(sys.argv[0],), add_cmdline_args=forward
)
for option, kind in (("--count", int), ("--module", str), ("--trial", str)):
    runner.argparser.add_argument(option, type=kind)
arguments = runner.parse_args()
if not arguments.worker:
    arguments.processes = arguments.count
trial = SourceFileLoader("trial", arguments.trial).load_module()
runner.bench_time_func("trial", one)
