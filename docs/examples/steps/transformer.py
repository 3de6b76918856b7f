# /// script
# [tool.sweep.axes]
# framework = ["torch==2.6.0", "torch==2.13.0"]
# seed = [0, 1, 2]
#
# [tool.sweep.parameters]
# threads = 2
# ///
"""Training step of a small transformer: forward, backward and update, each timed by itself."""

import torch
from torch import nn

PARAMETERS = {"width": 128, "layers": 2, "compiled": False}


class Transformer(nn.Module):
    def __init__(self, width, layers, words=1000):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, words)

    def forward(self, tokens):  # (batch, tokens) -> (batch, tokens, words)
        return self.head(self.encoder(self.embedding(tokens)))


def setup(width, layers, compiled, batch_size, device, seed):
    torch.manual_seed(seed)
    model = Transformer(width, layers).to(device)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    tokens = torch.randint(0, 1000, (batch_size, 33), device=device)

    def forward():
        optimizer.zero_grad()
        logits = run(tokens[:, :-1])
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    return {
        "forward": forward,
        "backward": lambda loss: loss.backward(),
        "update": optimizer.step,
    }
