"""Matrix products by the faster of torch's two libraries: the same numbers, chosen once."""

import gc
import time
from collections.abc import Iterator

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from engine.userstate import recall
from engine.worker import products, resuming
from engine.worker.tasks.base import Encoded

pytestmark = pytest.mark.skipif(products._kernel() is None, reason="this torch has one library only")
KERNEL = "mkldnn::_linear_pointwise"


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process multiplies by oneDNN, whatever is faster here."""
    monkeypatch.setattr(products, "fastest", lambda: "onednn")
    assert products.take_faster() == "onednn"
    yield
    _give_back()


@pytest.fixture
def undecided() -> Iterator[None]:
    """Nothing is known of this machine yet, and nothing is afterwards."""
    products.fastest.cache_clear()
    yield
    products.fastest.cache_clear()
    _give_back()


def _give_back() -> None:
    products._taken.clear()
    gc.collect()


def operations(call: object) -> list[str]:
    with profile(activities=[ProfilerActivity.CPU]) as found:
        call()  # type: ignore[operator]
    return [event.key for event in found.key_averages()]


FACTORS = {
    "in rows": lambda a, b: (a, b),
    "a weight": lambda a, b: (a, b.t().contiguous().t()),
    "the gradient of a weight": lambda a, b: (a.t().contiguous().t(), b),
    "both turned": lambda a, b: (a.t().contiguous().t(), b.t().contiguous().t()),
    "cut out": lambda a, b: (torch.cat([a, a], 1)[:, : a.shape[1]], torch.cat([b, b], 1)[:, : b.shape[1]]),
    "in bf16": lambda a, b: (a.bfloat16(), b.bfloat16()),
}


@pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("size", [(453, 96, 320), (96, 1200, 200), (1200, 1000, 16), (1, 3000, 2000), (3, 5, 7), (4, 0, 3)])
def test_products_are_those_of_double_precision(onednn: None, size: tuple[int, int, int], factors: object) -> None:
    m, k, n = size
    a, b = factors(torch.randn(m, k), torch.randn(k, n))  # type: ignore[operator]
    row, whole = torch.randn(n, dtype=a.dtype), torch.randn(m, n, dtype=a.dtype)
    wanted = a.double() @ b.double()
    found = {
        "mm": (a @ b, wanted),
        "bias": (torch.addmm(row, a, b), row + wanted),
        "sum": (torch.addmm(whole, a, b), whole + wanted),
        "scaled": (torch.addmm(whole, a, b, beta=0.5, alpha=3), 0.5 * whole + 3 * wanted),
        "in place": (products.added(whole.clone(), a, b), whole + wanted),
    }
    for name, (said, truth) in found.items():
        assert (said.shape, said.is_contiguous()) == ((m, n), True), name
        torch.testing.assert_close(
            said.double(), truth.double(), rtol=0, atol=(0.05 if a.dtype == torch.bfloat16 else 1e-5) * float(k or 1), msg=name
        )


def test_a_layer_learns_the_same_by_either_library(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, rows = torch.nn.Linear(512, 768), torch.randn(2, 100, 512, requires_grad=True)

    def gradients() -> list[torch.Tensor]:
        layer.zero_grad()
        rows.grad = None
        layer(rows).square().sum().backward()
        return [found.grad.clone() for found in (layer.weight, layer.bias, rows) if found.grad is not None]

    usual = gradients()
    assert KERNEL not in operations(gradients)
    monkeypatch.setattr(products, "fastest", lambda: "onednn")
    products.take_faster()
    try:
        for found, wanted in zip(gradients(), usual, strict=True):
            assert float((found - wanted).norm() / wanted.norm()) < 1e-6
        assert KERNEL in operations(gradients)
    finally:
        _give_back()
    assert KERNEL not in operations(gradients)


def test_kernels_that_fail_for_memory_are_used_no_more(onednn: None) -> None:
    """`TokenBudget` switches oneDNN off then."""
    a, b = torch.ones(300, 300), torch.ones(300, 300)
    assert KERNEL in operations(lambda: a @ b)
    with torch.backends.mkldnn.flags(enabled=False):
        assert KERNEL not in operations(lambda: a @ b)
        assert KERNEL not in operations(lambda: torch.addmm(b[0], a, b))


def test_sizes_that_do_not_fit_are_told_in_torchs_words(onednn: None) -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        torch.ones(400, 500) @ torch.ones(600, 700)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        torch.addmm(torch.ones(700), torch.ones(400, 500), torch.ones(600, 700))


@pytest.mark.parametrize("size", [(700, 64, 900), (700, 900, 64), (64, 1200, 1200)])
def test_what_a_product_copies_is_known_beforehand(onednn: None, size: tuple[int, int, int]) -> None:
    m, k, n = size
    for a, b in ((torch.randn(m, k), torch.randn(k, n)), (torch.randn(k, m).t(), torch.randn(k, n))):
        a @ b
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            a @ b
        events = [event.nbytes() for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
        live = [sum(events[: i + 1]) for i in range(len(events))]
        expected = 4 * m * n + sum(products.copies(a.to("meta"), b.to("meta")))
        assert abs(max(live) - expected) < 600_000, (max(live), expected)


def test_what_is_faster_is_measured_once_on_a_machine(undecided: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_measured", lambda: "onednn")
    assert products.take_faster() == "onednn"
    assert list(recall(products.FILE).values()) == ["onednn"]
    products.fastest.cache_clear()
    _give_back()
    monkeypatch.setattr(products, "_measured", lambda: "mkl")  # as a process that was disturbed would find
    assert products.take_faster() == "onednn"


@pytest.mark.parametrize("others", [(1.0, 9.0, 1.1, 1.0, 7.0), (0.0,) * 5])
def test_where_oneDNN_is_not_much_faster_torch_keeps_its_own_way(
    others: tuple[float, ...], undecided: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a neighbour's work makes of one turn, and where a clock of long ticks has stood still."""
    usual, other = iter([9.0, 1.2, 8.0, 1.3, 1.2]), iter(others)
    monkeypatch.setattr(products, "_seconds", lambda way, a, b: next(usual if way is torch.mm else other))
    assert products.take_faster() == "mkl"
    assert KERNEL not in operations(lambda: torch.ones(300, 300) @ torch.ones(300, 300))


def test_what_a_product_waits_for_others_is_not_counted() -> None:
    def waits(*_: torch.Tensor) -> torch.Tensor:
        time.sleep(0.2)
        return torch.ones(1)

    assert products._seconds(waits, torch.ones(1), torch.ones(1)) < 0.1


def test_where_oneDNN_is_much_faster_it_is_taken(undecided: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_seconds", lambda way, a, b: 2.0 if way is torch.mm else 1.0)
    assert products.take_faster() == "onednn"
    assert KERNEL in operations(lambda: torch.ones(300, 300) @ torch.ones(300, 300))


def test_a_library_whose_numbers_are_off_is_not_taken(undecided: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_direct", lambda a, b: torch.zeros(a.shape[0], b.shape[1]))
    monkeypatch.setattr(products, "_seconds", lambda way, a, b: 2.0 if way is torch.mm else 1.0)
    assert products.take_faster() == "mkl"


def test_a_resume_that_multiplies_otherwise_is_no_exact_one(onednn: None) -> None:
    train = Encoded([[1, 2], [3]], [0, 1], [0, 1])
    note = resuming.environment_note(train)
    assert resuming.compare(note, train) == "exact"
    assert resuming.compare(note | {"products": "mkl"}, train) == "approximate: products was mkl, is onednn"
    assert "products was mkl, is onednn" in resuming.compare({k: v for k, v in note.items() if k != "products"}, train)
