"""The step in JAX on one thread: jit, vmap over the joints, donated buffers, dense memories.

Of the forms of the memory that were tried, this is the fastest on the processor at hand: the sums over a tensor's
coordinates as a product with [models, coordinates], the sums over the models unrolled, so that XLA fuses them.
"""

import sys

try:
    import jax
    import jax.numpy as jnp
    import protocol as p
except ImportError as error:
    sys.exit(print(f"absent: {error}", flush=True))

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_cpu_enable_async_dispatch", False)


def loss(params, inputs, targets):
    values = inputs
    for layer in range(p.LAYERS):
        values = values @ params[2 * layer] + params[2 * layer + 1]
        if layer + 1 < p.LAYERS:
            values = jax.nn.relu(values)
    return jnp.mean((values[:, 0] - targets) ** 2)


def learn(rates, gradient, previous):
    """One tensor's memory: its new local rates, and the rate of every coordinate."""
    agreement = jnp.clip(gradient * previous, -1, 1)
    activations = jnp.exp(-((p.SCALE * previous - p.CENTRES[:, None]) ** 2))
    rates = rates + p.MEMORY_RATE / gradient.size * (activations @ agreement)
    rates = jnp.clip(rates, p.MIN_RATE, p.MAX_RATE)
    weighted = total = 0
    for model, centre in enumerate(p.CENTRES):
        activation = jnp.exp(-((p.SCALE * gradient - centre) ** 2))
        weighted, total = weighted + activation * rates[model], total + activation
    return rates, weighted / total


def joint_step(state, inputs, targets):
    gradients = jax.grad(loss)(state[0], inputs, targets)
    groups = []
    for param, rates, previous, gradient in zip(*state, gradients):
        gradient = jnp.clip(gradient.reshape(-1), -p.CLIP, p.CLIP)
        rates, rate = learn(rates, gradient, previous)
        groups.append((param - (rate * gradient).reshape(param.shape), rates, gradient))
    return tuple(map(list, zip(*groups)))


arm_step = jax.vmap(joint_step, in_axes=(0, None, 0))
step = jax.jit(arm_step, donate_argnums=0)
scan = jax.jit(
    lambda state, inputs, targets: jax.lax.scan(lambda s, xy: (arm_step(s, *xy), None), state, (inputs, targets))[0],
    donate_argnums=0,
)

params, rates = p.start()
fresh = (params, rates, [jnp.zeros((p.JOINTS, param[0].size), jnp.float32) for param in params])
state = batches = stacks = None


def load(inputs, targets):
    global batches, stacks
    batches = [(jnp.array(x), jnp.array(y)) for x, y in zip(inputs, targets)]
    stacks = {len(batches): (jnp.array(inputs), jnp.array(targets))}


def prepare():
    global state
    state = jax.block_until_ready(jax.tree.map(lambda x: jnp.array(x, copy=True), fresh))


def one_call_per_step(steps):
    global state
    for inputs, targets in batches[:steps]:
        state = step(state, inputs, targets)
    jax.block_until_ready(state)


def one_call_for_all(steps):
    global state
    if steps not in stacks:
        stacks[steps] = tuple(whole[:steps] for whole in stacks[len(batches)])
    state = jax.block_until_ready(scan(state, *stacks[steps]))


forms = {"a call per step": one_call_per_step, "scan": one_call_for_all}
p.serve(f"JAX {jax.__version__}", forms, load, prepare, lambda: state[:2])
