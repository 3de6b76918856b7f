"""Hydra's multirun with its joblib launcher.

Run `hydra_joblib.py -m hydra/launcher=joblib 'seed=range(0,COUNT)' …`.
"""

import subprocess

import hydra


@hydra.main(version_base=None, config_path=None)
def one(settings):
    subprocess.run(
        [settings.python, settings.trial, settings.module], check=True, stdout=subprocess.DEVNULL
    )


one()
