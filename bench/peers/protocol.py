"""What every Python peer does besides the step: answer the driver, line by line.

    script start.safetensors        ->  ready NAME: FORM, FORM...   |  absent: WHY
    load FILE                       ->  ok          inputs [steps, batch, inputs], targets [steps, joints, batch]
    run STEPS FORM                  ->  nanoseconds of STEPS steps from the start weights
    save FILE                       ->  ok          the last run's weights and memories, named as in a checkpoint

It ends when its input does.
"""

import sys
import time

import numpy as np
from safetensors.numpy import load_file, save_file

LAYERS, JOINTS, BATCH = 4, 7, 10
MODELS, WIDTH, CLIP, MEMORY_RATE = 20, 0.5, 2.0, 0.1
MIN_RATE, MAX_RATE = 1e-9, 1.0

# exp(-(g - c_k)^2 / (2 sigma^2)) is exp(-(SCALE g - CENTRES_k)^2).
SPACING = 2 * CLIP / (MODELS - 1)
SCALE = 1 / (np.sqrt(2) * WIDTH * SPACING)
CENTRES = (np.linspace(-CLIP, CLIP, MODELS) * SCALE).astype(np.float32)

NAMES = [f"layer.{layer}.{part}" for layer in range(LAYERS) for part in ("weight", "bias")]


def start():
    """The start's parameters and local rates: two lists, a tensor of all joints for each of NAMES."""
    tensors = load_file(sys.argv[1])
    stack = lambda part: np.stack([tensors[f"joint.{joint}.{part}"] for joint in range(JOINTS)])
    return [stack(name) for name in NAMES], [stack(f"memory.{group}") for group in range(len(NAMES))]


def serve(name, forms, load, prepare, state):
    """`forms`: name -> f(steps), which prepare() precedes and which returns when all is computed."""
    print(f"ready {name}: {', '.join(forms)}", flush=True)
    seen = set()
    for line in sys.stdin:
        word, argument = line.rstrip("\n").split(" ", 1)
        if word == "load":
            tensors = load_file(argument)
            load(tensors["inputs"], tensors["targets"])
            answer = "ok"
        elif word == "run":
            steps, form = argument.split(" ", 1)
            if (steps, form) not in seen:  # compiled here, not in the timing
                seen.add((steps, form))
                prepare()
                forms[form](int(steps))
            prepare()
            began = time.perf_counter_ns()
            forms[form](int(steps))
            answer = time.perf_counter_ns() - began
        elif word == "save":
            params, rates = (list(map(np.asarray, part)) for part in state())
            tensors = {}
            for group, part in enumerate(NAMES):
                for joint in range(JOINTS):
                    tensors[f"joint.{joint}.{part}"] = np.ascontiguousarray(params[group][joint])
                    tensors[f"joint.{joint}.memory.{group}"] = np.ascontiguousarray(rates[group][joint])
            save_file(tensors, argument)
            answer = "ok"
        else:
            sys.exit(f"no such command: {word}")
        print(answer, flush=True)
