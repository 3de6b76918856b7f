"""A loop around `subprocess.run`."""

import subprocess
import sys

count, module, python, trial = int(sys.argv[1]), *sys.argv[2:5]
for _ in range(count):
    subprocess.run([python, trial, module], check=True, stdout=subprocess.DEVNULL)
