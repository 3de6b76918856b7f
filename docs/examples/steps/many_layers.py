# /// script
# [tool.sweep.axes]
# framework = ["torch==1.0.1", "torch==2.13.0"]
# seed = [0, 1, 2]
#
# [tool.sweep.parameters]
# threads = 1
# ///
"""Many small layers: what the framework adds to each, forward and backward, rather than what it computes."""

import torch

PARAMETERS = {"layers": 200, "width": 8}


def setup(layers, width, batch_size, seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(*[torch.nn.Linear(width, width) for _ in range(layers)])
    inputs = torch.ones(batch_size, width)

    def forward():
        model.zero_grad()
        return model(inputs).sum()

    return {"forward": forward, "backward": lambda loss: loss.backward()}
