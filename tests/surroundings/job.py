"""A small training, a prediction and a save: python job.py FOLDER [KIB]. Prints a digest of the weights and the scores.

KIB: how much address space it may take beyond what it has after the imports.
What is refused ends it with exit code 3 and one line on standard error.
"""

from __future__ import annotations

import hashlib
import resource
import sys
from pathlib import Path


def limit_memory(kib: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 1024 * kib
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> int:
    folder = Path(sys.argv[1])
    try:
        import numpy as np

        import fastlenet
        from fastlenet.data import Dataset
        from fastlenet.formats.parameters import save_model
        from fastlenet.training.callbacks.json_log import JsonLog
        from fastlenet.training.recipe import Recipe
        from fastlenet.training.trainer import Trainer

        draw = np.random.default_rng(0)
        import safetensors.numpy  # noqa: F401  # which a save would import

        if len(sys.argv) > 2:
            limit_memory(int(sys.argv[2]))
        images, labels = draw.integers(0, 256, (320, 28, 28), np.uint8), draw.integers(0, 10, 320, np.uint8)
        data = Dataset("random", images[:256], labels[:256], images[256:], labels[256:], 10, 0.5, 0.25)
        model = fastlenet.LeNet(seed=1)
        recipe = Recipe(epochs=2, batch_size=32, lr=1e-3)
        log = JsonLog(folder / "log.jsonl", resumed=False)
        log.tell = lambda text: print(text, file=sys.stderr)  # type: ignore[method-assign]
        run = Trainer(model, data, recipe)
        run.run(log)
        save_model(folder / "model.safetensors", run.state.model.state_dict())
        scores = run.state.model.eval()(images[:8, None].astype(np.float32))
    except (MemoryError, OSError, ValueError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 3
    digest = hashlib.sha256(run.state.model.parameter_buffer.tobytes() + scores.tobytes()).hexdigest()[:16]
    print("done", digest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
