# /// script
# [tool.sweep.axes]
# framework = ["torch==2.13.0", "jax==0.10.2"]
# seed = [0, 1, 2]
#
# [tool.sweep.parameters]
# threads = 1
# ///
"""The same step in two frameworks: a layer, its loss and the gradient of its weights."""

import numpy as np

PARAMETERS = {"width": 256}


def setup(framework, width, batch_size, seed):
    random = np.random.RandomState(
        seed
    )  # the same numbers in both, so that results can be compared
    inputs = random.randn(batch_size, width).astype("float32")
    weights = random.randn(width, width).astype("float32") / width**0.5
    if framework.startswith("torch"):
        return in_torch(inputs, weights)
    return in_jax(inputs, weights)


def in_torch(inputs, weights):
    import torch

    x, w = torch.from_numpy(inputs), torch.from_numpy(weights).requires_grad_()

    def step():
        w.grad = None
        loss = torch.tanh(x @ w).square().mean()
        loss.backward()
        return loss

    return step


def in_jax(inputs, weights):
    import jax
    from jax import numpy as jnp

    def loss(w, x):
        return jnp.square(jnp.tanh(x @ w)).mean()

    x, w = jnp.asarray(inputs), jnp.asarray(weights)
    gradient = jax.jit(jax.value_and_grad(loss))
    return lambda: gradient(w, x)  # the loss first
