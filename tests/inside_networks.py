"""Run inside an environment: `python inside_networks.py FRAMEWORK SETTINGS…` tells what it makes of tiny networks.

Settings are JSON; one line of JSON comes back for each, with an answer for every network. FRAMEWORK may be `aged-torch`:
torch, made to look like 0.1.10, which is asked for the networks of images alone.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from inside import loaded
from tiny_networks import EVERY, TRANSFORMER, told


def main(name, *settings):
    """Tells of every settings in turn."""
    networks = EVERY
    if name == "aged-torch":
        networks = [network for network in EVERY if network is not TRANSFORMER]
        import aged
        import torch

        aged.age(torch)
    framework = loaded(name.split("-")[-1])
    for each in map(json.loads, settings):
        framework.load(each)
        print(json.dumps({network.name: told(framework, network, each) for network in networks}))


if __name__ == "__main__":
    main(*sys.argv[1:])
