"""torch's two libraries of a CPU: the matrix products of a step in fp32 by MKL, which torch takes, and by oneDNN.

    python -m benchmarks.products

For a linear layer of each shape: what it says (`forward`), and the gradients of what it read (`by_input`) and of its weight
(`by_weight`), with the copies that the latter's layout costs oneDNN. Gflop/s, the median of some turns. The number of tokens is
a new one in every turn, as in a run without padding: kernels are made anew for it, and then serve as many layers as MiniLM has.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.command_line import command_line, keep
from benchmarks.paired import machine
from engine.worker import products

LAYERS = {"MiniLM": ((384, 384), (384, 1536), (1536, 384)), "SmolLM2-135M": ((576, 576), (576, 1536), (1536, 576))}
"""(in, out)."""
TOKENS = (32, 200, 700, 3000)
"""About so many; `products.LEAST` lies where oneDNN begins to pay."""
TURNS, ALIKE = 9, 6
"""Of which the first does not count; and how many layers of a shape a model has."""
KINDS: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "forward": lambda x, w, dy: x @ w.t(),
    "by_input": lambda x, w, dy: dy @ w,
    "by_weight": lambda x, w, dy: dy.t() @ x,
}


def rates(width: int, out: int, tokens: int) -> dict[str, dict[str, float]]:
    """Gflop/s of each kind by each library, and how many times as fast oneDNN is."""
    found: dict[str, dict[str, list[float]]] = {kind: {"mkl": [], "onednn": []} for kind in KINDS}
    weight = torch.randn(out, width)
    for turn in range(TURNS):
        rows = tokens + random.randrange(tokens // 4)
        x, gradient = torch.randn(rows, width), torch.randn(rows, out)
        for kind, call in KINDS.items():
            for library in ("mkl", "onednn"):
                with torch.backends.mkldnn.flags(enabled=library == "onednn"):
                    begin = time.perf_counter()
                    for _ in range(ALIKE):
                        call(x, weight, gradient)
                    took = (time.perf_counter() - begin) / ALIKE
                if turn:
                    found[kind][library].append(2e-9 * rows * width * out / took)
    middle = {kind: {library: round(median(seen), 1) for library, seen in of.items()} for kind, of in found.items()}
    return {kind: of | {"times": round(of["onednn"] / of["mkl"], 2)} for kind, of in middle.items()}


def main() -> None:
    """Measure, and write the result beside the others."""
    parser = command_line(__doc__)
    parser.set_defaults(work=Path("runs-bench"))
    given = parser.parse_args()
    if products.take_faster() == "mkl":
        parser.exit(message="On this machine Loracle multiplies by MKL.\n")
    found: dict[str, Any] = {
        model: {f"{w}x{o}": {str(t): rates(w, o, t) for t in TOKENS} for w, o in layers} for model, layers in LAYERS.items()
    }
    keep({"benchmark": "products", **found, "machine": machine()}, given.output, "products")


if __name__ == "__main__":
    main()
