"""The step in PyTorch on one thread: all joints in one stack of tensors, the gradient written out (no tape), dense
memories whose activations are kept for the next step. Once eagerly, and once through torch.compile where that works.
"""

import sys

try:
    import torch
    import protocol as p
except ImportError as error:
    sys.exit(print(f"absent: {error}", flush=True))

torch.set_num_threads(1)
torch.set_flush_denormal(True)
torch.set_grad_enabled(False)
CENTRES = torch.from_numpy(p.CENTRES)[None, :, None]


def learn(param, rates, previous, activations, gradient):
    """One tensor of all joints: what takes the place of the first four arguments."""
    gradient = gradient.clamp(-p.CLIP, p.CLIP).flatten(1)
    agreement = (gradient * previous).clamp_(-1, 1)
    change = torch.bmm(activations, agreement[:, :, None])[:, :, 0]
    rates = rates.add(change, alpha=p.MEMORY_RATE / gradient.shape[1]).clamp_(p.MIN_RATE, p.MAX_RATE)
    activations = (p.SCALE * gradient[:, None] - CENTRES).square_().neg_().exp_()
    rate = torch.bmm(rates[:, None], activations)[:, 0] / activations.sum(1)
    return param - (rate * gradient).view_as(param), rates, gradient, activations


def step(groups, inputs, targets):
    values = [inputs.expand(p.JOINTS, -1, -1)]
    for layer in range(p.LAYERS):
        sums = torch.baddbmm(groups[2 * layer + 1][0][:, None], values[-1], groups[2 * layer][0])
        values.append(sums.relu_() if layer + 1 < p.LAYERS else sums)
    delta = (values[-1] - targets[:, :, None]) * (2 / p.BATCH)
    after = [None] * len(groups)
    for layer in reversed(range(p.LAYERS)):
        weight, bias = groups[2 * layer], groups[2 * layer + 1]
        after[2 * layer] = learn(*weight, torch.bmm(values[layer].mT, delta))
        after[2 * layer + 1] = learn(*bias, delta.sum(1))
        if layer:
            delta = torch.bmm(delta, weight[0].mT).mul_(values[layer] > 0)
    return after


def fresh():
    groups = []
    for param, rates in zip(*p.start()):
        flat = torch.zeros(p.JOINTS, param[0].size)
        activations = torch.zeros(p.JOINTS, p.MODELS, param[0].size)
        groups.append((torch.from_numpy(param), torch.from_numpy(rates), flat, activations))
    return groups


groups = batches = None


def load(inputs, targets):
    global batches
    batches = list(zip(torch.from_numpy(inputs), torch.from_numpy(targets)))


def prepare():
    global groups
    groups = fresh()


def form(step):
    def run(steps):
        global groups
        for inputs, targets in batches[:steps]:
            groups = step(groups, inputs, targets)

    return run


forms = {"eager": form(step)}
try:
    compiled = torch.compile(step)
    compiled(fresh(), torch.zeros(p.BATCH, 21), torch.zeros(p.JOINTS, p.BATCH))
    forms["compiled"] = form(compiled)
except Exception as error:  # no C++ compiler, for one
    print(f"torch.compile does not work here: {error}", file=sys.stderr)

p.serve(f"PyTorch {torch.__version__}", forms, load, prepare, lambda: zip(*[group[:2] for group in groups]))
